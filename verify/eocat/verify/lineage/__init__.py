"""Where the pixels came from: SAFE manifests, Copernicus traces, checksums of STAC Items, sources, weights.

Design of provenance, section 9; level 4 of `check.py`. This file imports nothing: `statement.py` may use
`claims.py` while the modules here use `statement.py`.
"""
