"""A desk at work: reports (one option of its book), forecasts (a batch along a grid) and health checks, 3:1:1.

Passes, and ends with exit code 0, when p95 is under 500 ms, fewer than 1 % of the calls fail, and more than 80 % of the reports
come from the cache (as the answers themselves say). Needs only Locust, so it also runs from a pod:

    locust -f locustfile.py --headless --host http://127.0.0.1:8080 --users 100 --spawn-rate 50 --run-time 60s
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc"
# Runs in an environment of its own, which the type checker does not see.

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

from locust import FastHttpUser, between, events, task

P95_MS: Final = 500
ERRORS: Final = 0.01
HITS: Final = 0.8
BOOK: Final = [
    {
        "spot": 100.0,
        "strike": 80.0 + 5 * number,
        "maturity": 0.25 * (1 + number % 4),
        "rate": 0.03,
        "dividend_yield": 0.01,
        "volatility": 0.18 + 0.02 * (number % 3),
        "kind": "call" if number % 2 else "put",
    }
    for number in range(10)
]
GRID: Final = [0.8 + 0.02 * step for step in range(21)]

methods: Counter[str] = Counter()
"""How the reports were answered."""


class Desk(FastHttpUser):
    """One trader. The market moves a little between two looks at it: the rate by half a per cent, the volatility by one."""

    wait_time = between(0.1, 0.3)
    network_timeout = 5.0
    connection_timeout = 5.0

    @task(3)
    def report(self) -> None:
        """Price and Greeks of one option of the book."""
        option: dict[str, Any] = dict(random.choice(BOOK))
        option["rate"] *= random.uniform(0.995, 1.005)
        option["volatility"] *= random.uniform(0.99, 1.01)
        answer = self._ask("report", option)
        if answer is not None:
            methods[str(answer.get("method"))] += 1

    @task(1)
    def forecast(self) -> None:
        """What one option would be worth along a grid of spots."""
        option = random.choice(BOOK)
        self._ask("forecast", [{**option, "spot": 100.0 * level} for level in GRID])

    @task(1)
    def health(self) -> None:
        """What a load balancer asks."""
        self.client.get("/health", name="health")

    def _ask(self, name: str, document: Any) -> Any:
        """The answer, None when it is a failure: not 200, or not a finite price for each option asked about."""
        with self.client.post("/predict", json=document, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {(response.text or '')[:200]}")
                return None
            answer = response.json()
            wanted = len(document) if isinstance(document, list) else 1
            prices = [item.get("price") for item in (answer if isinstance(answer, list) else [answer])]
            if len(prices) != wanted or not all(isinstance(p, float) and math.isfinite(p) for p in prices):
                response.failure(f"no price: {(response.text or '')[:200]}")
                return None
            return answer


@events.init_command_line_parser.add_listener
def add_option(parser: Any, **_: Any) -> None:
    """Where the figures go."""
    parser.add_argument("--figures", metavar="FILE", help="write the figures and the verdict there, as JSON")


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Prints each criterion with its figure; the exit code is the verdict."""
    figures = summary(environment.stats.total)
    criteria = {
        f"p95 {figures['p95_ms']} ms, under {P95_MS}": figures["p95_ms"] < P95_MS,
        f"errors {figures['error_rate']:.2%}, under {ERRORS:.0%}": figures["error_rate"] < ERRORS,
        f"cache hits {figures['hit_rate']:.1%}, above {HITS:.0%}": figures["hit_rate"] > HITS,
    }
    for sentence, met in criteria.items():
        print(f"{'passed' if met else 'FAILED'}  {sentence}")
    figures["passed"] = all(criteria.values()) and figures["requests"] > 0
    environment.process_exit_code = 0 if figures["passed"] else 1
    if path := environment.parsed_options.figures:
        Path(path).write_text(json.dumps(figures))


def summary(total: Any) -> dict[str, Any]:
    """Of all calls; the hit rate of the reports."""
    reports = methods.total()
    return {
        "requests": total.num_requests,
        "failed": total.num_failures,
        "per_second": round(total.total_rps, 1),
        "p50_ms": total.get_response_time_percentile(0.5) or 0,
        "p95_ms": total.get_response_time_percentile(0.95) or 0,
        "p99_ms": total.get_response_time_percentile(0.99) or 0,
        "error_rate": round(total.fail_ratio, 5),
        "hit_rate": round(methods["cache"] / reports, 4) if reports else 0.0,
        "methods": dict(methods),
    }
