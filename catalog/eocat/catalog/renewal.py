"""New cosignatures for the checkpoint that is published: a log that does not grow must not look frozen.

Readers take a log's age from its witnesses' times. `renew` asks all of them again, in the log's own lock; a
witness that does not answer keeps the line that it had. A first note with the quorum is kept for good.
"""

from dataclasses import dataclass

from eocat.verify.errors import ConfigError
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.log.note import Note, format_note, parse_note, signed_by

from .cosign import Asked, read_witnesses, witnesses_path
from .database import Database
from .log import LOCK, keep_cosigned, log_folder, open_keyring
from .log_evidence import open_checkpoint


@dataclass(frozen=True, slots=True)
class Renewal:
    checkpoint: Checkpoint
    asked: tuple[Asked, ...]
    quorum_met: bool  # by those who answered now


def renew(database: Database) -> Renewal:
    """Ask the witnesses again and publish what they sign; ConfigError without witnesses or checkpoint."""
    home, keyring = database.required_home(), open_keyring(database)
    folder, witnesses = log_folder(home), read_witnesses(home, keyring.verifier)
    if witnesses is None:
        raise ConfigError(
            f"the log has no witnesses in {witnesses_path(home)}", hint="docs/log.md shows what goes in"
        )
    with database.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # freed with the connection
        published = folder.read_checkpoint()
        if published is None:
            raise ConfigError("the log has published no checkpoint", hint="eocat log checkpoint makes one")
        checkpoint = open_checkpoint(published, keyring.verifier)
        note = parse_note(published)
        own = tuple(dict.fromkeys(line for _, line in signed_by(note, [keyring.verifier]).valid))
        asked = witnesses.ask(format_note(Note(note.text, own)))
        fresh = tuple(one.signature for one in asked if one.signature)
        replaced = {(line.name, line.key_id) for line in fresh}
        kept = tuple(line for line in note.signatures if (line.name, line.key_id) not in replaced)
        if fresh:
            folder.write_checkpoint(format_note(Note(note.text, (*kept, *fresh))))
        keep_cosigned(connection, folder, witnesses)
    return Renewal(checkpoint, asked, witnesses.is_quorum(asked))
