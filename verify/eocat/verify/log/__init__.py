"""Transparency logs as C2SP writes them: notes, checkpoints, cosignatures, quorums, tiles and proofs.

Every module here is a pure function of bytes: no network, no database, no private key.
"""
