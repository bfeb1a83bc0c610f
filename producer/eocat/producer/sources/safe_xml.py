"""XML metadata of products, parsed without a document type: entities could expand or fetch.

The text is decoded here as UTF-8, so no declared encoding can hide a DOCTYPE from the check.
"""

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from eocat.verify.errors import InputError

_HINT = "the product's own XML is expected, as it was downloaded"

Element = ET.Element


def parse_xml(data: bytes, name: str) -> Element:
    """The root element; raises InputError for anything but plain, well-formed UTF-8 XML."""
    try:
        text = data.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InputError(f"{name} declares a document type or entities, which are not read", hint=_HINT)
        return ET.fromstring(text)  # noqa: S314 - without a DOCTYPE there is nothing to expand or fetch
    except (UnicodeDecodeError, ET.ParseError) as error:
        raise InputError(f"{name} is not well-formed UTF-8 XML: {error}", hint=_HINT) from error


def texts_of(element: Element, tag: str) -> Iterator[str]:
    """The stripped texts of all descendants with this tag (SAFE's inner tags have no namespace)."""
    return ((found.text or "").strip() for found in element.iter(tag))


def text_of(element: Element, tag: str, name: str) -> str:
    """The first such text; raises InputError if there is none."""
    if text := next(texts_of(element, tag), ""):
        return text
    raise InputError(f"{name} has no {tag}, which Sentinel-2 metadata state", hint=_HINT)
