"""The files at hand of one source by their names: a SAFE product's, in a folder or a zip, and plain ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unavailable
from .product import BLOCK_BYTES, Product, open_product


@dataclass(frozen=True, slots=True)
class FilesAtHand:
    """Plain files, and those of a product below its root as `X.SAFE/…`. A zip also stands for itself."""

    plain: Mapping[str, Path]
    product: Product | None = None

    @property
    def names(self) -> list[str]:
        inside = self.product.sizes if self.product else ()
        return [*self.plain, *(f"{self.product.root}/{name}" for name in inside if self.product)]

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file of `names`; Unavailable where it cannot be read."""
        if (path := self.plain.get(name)) is None and self.product is not None:
            yield from self.product.blocks(name.removeprefix(f"{self.product.root}/"))
            return
        try:
            with self.plain[name].open("rb") as stream:
                while block := stream.read(BLOCK_BYTES):
                    yield block
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def files_at_hand(plain: Mapping[str, Path], product: Path | None) -> Iterator[FilesAtHand]:
    """plain: name → path. product: a SAFE folder or zip; Malformed for a hostile one."""
    itself = {product.name: product} if product is not None and product.is_file() else {}
    with open_product(product) if product is not None else nullcontext() as opened:
        inside = {f"{opened.root}/{name}" for name in opened.sizes} if opened else set()
        yield FilesAtHand({k: p for k, p in {**plain, **itself}.items() if k not in inside}, opened)
