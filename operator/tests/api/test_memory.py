"""What is remembered of a rollout fits the object that it is stored in, however many servers there are."""

import base64
import gzip
import json
import random
from typing import Any

import pytest
from pinn_operator.api.codec import dump
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.memory import LONGEST_PLAIN, MOST_UNPACKED, Memory, read, written
from pinn_operator.api.readings import Measured, PodMetrics
from pinn_operator.api.spec import Spec
from pinn_operator.decide.evidence import Ledger, begin_step, rules_of
from pinn_operator.decide.evidence.neighbours import NAMES
from pinn_operator.decide.watch import dumped, tick
from tests.given import NOW, observed, resource

AT = NOW.timestamp()
JOURNAL = Journal(Arm("b", "2.0.0"), Arm("a", "1.0.0"), AT)
MOST_SERVERS = max(constraint.le for constraint in Spec.model_fields["replicas"].metadata if hasattr(constraint, "le"))


def known_of(servers: int) -> Memory:
    """After a reading of so many servers of each revision, with counters of six digits of which no two are alike."""
    chance = random.Random(servers)

    def counts(names: tuple[str, ...]) -> dict[str, float]:
        return {name: float(chance.randrange(10**6)) for name in names}

    def of(revision: str, number: int) -> PodMetrics:
        process = (
            f"option-pricer-{revision * 10}-{chance.getrandbits(48):012x}-{number:05}/{chance.getrandbits(48):012x}"
        )
        return PodMetrics(revision, process, AT + chance.random(), counts(rules.counters), users=counts(NAMES))

    of_object = resource()
    rules = rules_of(of_object.spec)
    pods = tuple(of(revision, number) for revision in "ab" for number in range(servers))
    seen = observed(of_object, measured=Measured(pods=pods))
    journal, ledger = tick(seen, JOURNAL, begin_step(Ledger(), rules, AT, 3), rules)
    return Memory(journal, dumped(ledger), {"promote": "b@1"})


def test_a_memory_of_a_few_servers_is_stored_as_it_is() -> None:
    known = known_of(10)
    assert json.loads(written(known)) == json.loads(json.dumps(dump(known)))


def test_a_memory_of_as_many_servers_as_there_may_be_fits_a_configmap_and_is_known_again() -> None:
    known = known_of(MOST_SERVERS)
    assert (MOST_SERVERS, len(json.dumps(dump(known))) > 2**20) == (1000, True)
    text = written(known)
    assert len(text) < 2**20 / 2
    assert read(text) == known
    assert written(read(text)) == text


def test_what_people_need_to_read_it_is_at_hand() -> None:
    known = known_of(300)
    packed = json.loads(written(known))["gzip"]
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == json.loads(json.dumps(dump(known)))
    assert len(json.dumps(dump(known))) > LONGEST_PLAIN


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


@pytest.mark.parametrize(
    "packed",
    [
        7, "", "%", "H4sI", _packed(b"{}")[:-8], _packed(b""), _packed(b"{"), _packed(b"[]"),
        base64.b64encode(b"plain text").decode(), _packed(b" " * MOST_UNPACKED + b"{}"),
    ],
)  # fmt: skip
def test_a_damaged_memory_is_refused(packed: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        read(json.dumps({"gzip": packed}))
