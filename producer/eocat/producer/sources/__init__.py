"""Scenes: what can be embedded, from the files that people have. DESIGN.md, section 3."""

from .find import find_scenes
from .scene import Pixels, Scene, SourceFile
from .told import Told

__all__ = ["Pixels", "Scene", "SourceFile", "Told", "find_scenes"]
