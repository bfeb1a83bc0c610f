"""What auditors say of an item: their ATTESTs, each under a key that the policy trusts as an auditor's.

A receipt is another's word: it lifts no level, which only the verifier's own `--recompute` does. One by a
trusted auditor that found a difference fails the item. One by anybody else is counted and left at that, so
that nobody can spoil an item by attesting it.
"""

from collections.abc import Sequence

from .receipt import Recomputed
from .report import Outcome, Step

STEP = "receipts"


def check_receipts(receipts: Sequence[tuple[Recomputed, Step]]) -> Step | None:
    """The step over receipts, each with the verdict on its signature; None where there are none."""
    if not receipts:
        return None
    trusted = [(receipt, signed.text) for receipt, signed in receipts if signed.outcome is None]
    others = len(receipts) - len(trusted)
    more = f"; {others} more by no auditor of the policy" if trusted and others else ""
    facts = {"trusted": len(trusted), "others": others}
    if not trusted:
        return Step(STEP, f"{others} by no auditor of the policy", checked=False, facts=facts)
    bad = [(receipt, signer) for receipt, signer in trusted if not receipt.is_clean]
    receipt, signer = bad[-1] if bad else trusted[-1]
    text = f"{receipt.to_text()}, {signer}{more}"
    return Step(STEP, text, Outcome.RECOMPUTE_MISMATCH if bad else None, facts=facts)
