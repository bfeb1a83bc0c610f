"""Scenes: what can be embedded, from the files that people have. DESIGN.md, section 3."""

from .find import find_scenes
from .scene import BandFile, Scene, SourceFile
from .told import Told

__all__ = ["BandFile", "Scene", "SourceFile", "Told", "find_scenes"]
