"""What looks like a secret does not get into a report; what does not, stays readable."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pinn_operator.report.redaction import REDACTED, redacted, tail

SECRET = "hunter2-Zq9"
KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (f"authorization: Bearer {SECRET}", "authorization: [redacted]"),
        (f"GET /x Authorization: Basic {SECRET} more", "GET /x Authorization: [redacted]"),
        (
            f'{{"authorization": "Bearer {SECRET}", "event": "asked"}}',
            '{"authorization": [redacted], "event": "asked"}',
        ),
        (f"(b'authorization', b'Bearer {SECRET}'), (b'host', b'a')", "(b'authorization', [redacted]), (b'host', b'a')"),
        (f"sent Bearer {SECRET} to b", "sent Bearer [redacted] to b"),
        (f"the bearer token {SECRET} was refused", "the bearer token [redacted] was refused"),
        (f"password={SECRET} user=bob", "password=[redacted] user=bob"),
        (f'password="{SECRET} with \\" in it" user=bob', "password=[redacted] user=bob"),
        (f"PINN_SERVER_ADMIN_TOKEN={SECRET}", "PINN_SERVER_ADMIN_TOKEN=[redacted]"),
        (f"secret = '{SECRET}'", "secret = [redacted]"),
        (f"DB_PASS={SECRET}", "DB_PASS=[redacted]"),
        (f'{{"clientSecret":"{SECRET}","n":1}}', '{"clientSecret":[redacted],"n":1}'),
        (f'"body": "{{\\"token\\":\\"{SECRET}\\",\\"n\\":1}}"', '"body": "{\\"token\\":[redacted],\\"n\\":1}"'),
        (f"tokens: [{SECRET}, {SECRET}]", "tokens: [redacted]"),
        (f"token=[{SECRET}, {SECRET}]", "token=[redacted]"),
        (f'password="{SECRET}', "password=[redacted]"),
        (f"?token={SECRET}&n=1 200", "?token=[redacted] 200"),
        (f"?X-Amz-Signature={SECRET} 200", "?X-Amz-Signature=[redacted] 200"),
        (f"token%3D{SECRET}", "token%3D[redacted]"),
        (f"--admin-token {SECRET} --port 1", "--admin-token [redacted] --port 1"),
        (f"<password>{SECRET}</password>", "<password>[redacted]"),
        (f"Set-Cookie: id={SECRET}; Path=/", "Set-Cookie: [redacted]"),
        (f"pulling https://bob:{SECRET}@host/x", "pulling https://[redacted]@host/x"),
        (f"pulling https://{SECRET}@host/x", "pulling https://[redacted]@host/x"),
        (f"postgres://bob:a/b@{SECRET}@host", "postgres://[redacted]@host"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key [redacted] used"),
        (f"the secret {KEY} is wrong", "the secret [redacted] is wrong"),
        ("token is 0123456789abcdef0123456789abcdef, sorry", "token is [redacted], sorry"),
        ("AZURE_STORAGE_KEY=abcd1234", "AZURE_STORAGE_KEY=[redacted]"),
        ("AZURE_STORAGE_KEY: abcd1234 loaded", "AZURE_STORAGE_KEY: [redacted]"),
        ("OPENAI_KEY: sk-proj-abcd1234", "OPENAI_KEY: [redacted]"),
        ("asked with sk-proj-abcd1234efgh twice", "asked with [redacted] twice"),
        ("charged by sk_test_abcd1234efgh.", "charged by [redacted]."),
        ("started with DBPASS=hunter2", "started with DBPASS=[redacted]"),
        ("--storage-key abcd1234 --port 1", "--storage-key [redacted] --port 1"),
        ("--dbpass hunter2 --port 1", "--dbpass [redacted] --port 1"),
        ("GET https://h/x?key=abcd1234&n=1 200", "GET https://h/x?key=[redacted]&n=1 200"),
        ('{"url": "https://h/x?n=1&key=abcd1234", "n": 1}', '{"url": "https://h/x?n=1&key=[redacted]", "n": 1}'),
        ("curl -u user:hunter2 https://h", "curl -u [redacted] https://h"),
        ('curl --user "user:hunter 2" https://h', "curl --user [redacted] https://h"),
        ("db=user:hunter2@tcp(db:3306)/x", "db=[redacted]@tcp(db:3306)/x"),
        ("opened user:hun@ter2@unix(/run/db)/x", "opened [redacted]@unix(/run/db)/x"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "got [redacted]"),
        (f"pass\x1b[0mword={SECRET}", "password=[redacted]"),
        (f"a -----BEGIN RSA PRIVATE KEY-----\n{KEY}\n-----END RSA PRIVATE KEY----- b", "a [redacted] b"),
        (f"{KEY}\n-----END PRIVATE KEY----- b", "[redacted] b"),
        (f"a -----BEGIN PRIVATE KEY-----\n{KEY}", "a [redacted]"),
    ],
)
def test_a_secret_is_replaced_and_the_rest_stays(line: str, kept: str) -> None:
    assert redacted(line) == kept


@pytest.mark.parametrize(
    "line",
    [
        "errorRate: 31.2 % of the last 160 requests to the canary failed (limit 1%, stable 0.4 %)",
        "no metrics, pricer-6f1e0c2b9d-abcde: answered 401, wrong token; the weight stays",
        "model black-scholes 2.0.0 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 loaded",
        '{"event": "serving", "address": "http://0.0.0.0:8080", "took_ms": 212}',
        '  File "/opt/venv/lib/python3.12/site-packages/pinn_inference/engines/litert.py", line 12',
        "the container was killed: OOMKilled",
        "errorRate: every gate must pass; 3 of 4 gates pass, 12000 requests are needed, ask for more",
        "hot-key: 3.2 % of the last 1200 events (limit 1%, stable 0 %)",
        "hot-key: no metrics, nothing was read yet; the weight stays",
        "monkey=banana turkey: 3, the cache key figures: 12, cache_key=0.1/0.2, bypass=true",
        "valueFrom: key: tls.crt, topologyKey: kubernetes.io/hostname",
        "docker run -u 1000:1000 server; python -u server.py; risk-neutral-measure-of-all",
        "git clone -u https://host/x; pulled registry:5000/server:1.0@sha256:abc",
    ],
)
def test_what_is_no_secret_stays_as_it_is(line: str) -> None:
    assert redacted(line) == line


WORDS = st.sampled_from(
    (
        "password", "PASSWORD", "db_password", "passwd", "token", "X-Auth-Token", "clientSecret", "secret", "api_key",
        "aws_secret_access_key", "Authorization", "credential", "PINN_SERVER_ADMIN_TOKEN", "private-key", "cookie",
    )
)  # fmt: skip
GLUE = st.sampled_from(["=", ": ", ":", " = ", '": "', "': '", '\\":\\"', '="', "='", " => ", "%3D", "', b'"])
TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/_.-", min_size=6, max_size=80)
AROUND = st.text(st.characters(exclude_characters="\n"), max_size=40)


@given(before=AROUND, word=WORDS, glue=GLUE, token=TOKENS, after=AROUND)
@example(before="", word="token", glue='\\":\\"', token="a" * 6, after='\\"')
def test_a_token_after_such_a_word_never_survives(before: str, word: str, glue: str, token: str, after: str) -> None:
    planted = f"#{token}#"
    kept = redacted(f"{before} {word}{glue}{planted} {after}")
    assert planted not in kept
    assert token not in kept.replace(REDACTED, "").replace(word, "") or token in before + after + word + REDACTED


@given(before=AROUND, word=WORDS, token=TOKENS.filter(lambda token: len(token) >= 16))
def test_a_long_word_after_such_a_word_never_survives(before: str, word: str, token: str) -> None:
    assert token not in redacted(f"{before} {word} was ({token})").removeprefix(before) or token in before


@pytest.mark.parametrize(
    "part",
    [
        "://a:",
        "token",
        'token="',
        "password=\\\\",
        "eyJaaaaa.",
        "basic ",
        "'",
        "x-amz-a",
        "a:",
        "a:b@c",
        "-u a",
        "a-key",
        "?key=",
        "--a-",
        "pass",
    ],
)
@pytest.mark.timeout(60)
def test_no_line_makes_a_pattern_go_back_and_forth_for_ever(part: str) -> None:
    assert redacted((part * 2000)[:3000])


def test_a_tail_begins_with_a_whole_line() -> None:
    assert tail("password=a\nb\nc", 5) == "b\nc"
    assert tail("password=secret", 6) == ""
    assert tail("a\nb", 3) == "a\nb"
    assert tail("a\nb", 0) == ""


def test_half_a_character_does_not_break_the_text() -> None:
    assert redacted("a\ud800b") == "a?b"
