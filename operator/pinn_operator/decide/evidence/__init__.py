"""Whether a canary is good enough: from counters to a verdict. Pure, and stored as plain data (docs/concepts/evidence.md).

ledger = begin_step(Ledger(), rules, now, steps_left)      when the step's traffic is in place
ledger = take(ledger, rules, reading)          on every tick
verdict = judge(ledger, rules, now, interval)                    whenever somebody asks
load(Ledger, json.loads(json.dumps(dump(ledger)))) == ledger     before every write, after every restart
"""

from pinn_operator.api.codec import dump, load
from pinn_operator.decide.evidence.counters import Sample
from pinn_operator.decide.evidence.gates import Gate, Limit, gates_of
from pinn_operator.decide.evidence.ledger import Ledger, Reading, begin_step, take, until
from pinn_operator.decide.evidence.rules import Ceiling, MemoryLimits, Rules, Sustained, rules_of
from pinn_operator.decide.evidence.standing import GateVerdict
from pinn_operator.decide.evidence.verdict import StepVerdict, judge

__all__ = [
    "Ceiling",
    "Gate",
    "GateVerdict",
    "Ledger",
    "Limit",
    "MemoryLimits",
    "Reading",
    "Rules",
    "Sample",
    "StepVerdict",
    "Sustained",
    "begin_step",
    "dump",
    "gates_of",
    "judge",
    "load",
    "rules_of",
    "take",
    "until",
]
