"""Whose Copernicus traces count: keys or authorities that the user's policy pins. Attack 57.

Strict models, so that a policy file can hold them as they are.
"""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .certificate import Certificate, parse_certificate
from .errors import Malformed
from .keys import decode_base64
from .statement import Hex32, Strict, Text, Time, parse_time

Origins = Annotated[list[Text], Field(min_length=1, max_length=64)]


class KeyPin(Strict):
    """A signing key: SHA-256 of its SubjectPublicKeyInfo, and the origins that it may speak for.

    notBefore, notAfter: the user's own dates for the key, `[notBefore, notAfter)`. Needed, because with a
    pinned key nobody's signature covers the certificate: whoever passes a trace on can rewrite its dates.
    certificateDates: "checked" wants those to hold too; "ignored" is for archives whose traces outlive
    their certificates (the service has real ones, registered a month after their certificate's end).
    """

    type: Literal["key"] = "key"
    name: Text
    spki: Hex32
    origins: Origins
    notBefore: Time  # noqa: N815
    notAfter: Time  # noqa: N815
    certificateDates: Literal["checked", "ignored"] = "checked"  # noqa: N815

    def vouches(self, certificate: Certificate) -> bool:
        return certificate.spki == self.spki

    def valid_at(self, moment: datetime, certificate: Certificate) -> bool:
        if self.certificateDates == "checked" and not certificate.start <= moment <= certificate.end:
            return False
        return parse_time(self.notBefore) <= moment < parse_time(self.notAfter)


class AuthorityPin(Strict):
    """A certificate authority that issues the signer's certificate itself, and the one subject that counts.

    certificate: DER in base64. subject: a common or DNS name that the signer's certificate must have, since
    the service's own is issued by a public authority, which certifies anybody.
    """

    type: Literal["authority"] = "authority"
    name: Text
    certificate: Annotated[str, Field(max_length=1 << 17)]
    subject: Text
    origins: Origins

    @model_validator(mode="after")
    def _is_an_authority(self) -> Self:
        try:
            found = self.authority
        except Malformed as error:
            raise ValueError(str(error)) from None
        if not found.is_authority:
            raise ValueError("the certificate is not an authority's")
        return self

    @property
    def authority(self) -> Certificate:
        return parse_certificate(decode_base64(self.certificate, what="certificate"))

    def vouches(self, certificate: Certificate) -> bool:
        return self.subject in certificate.names and self.authority.issued(certificate)

    def valid_at(self, moment: datetime, certificate: Certificate) -> bool:
        return all(found.start <= moment <= found.end for found in (certificate, self.authority))


Pin = KeyPin | AuthorityPin
