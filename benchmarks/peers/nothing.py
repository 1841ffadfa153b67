"""What is left where there is no server: uvloop reads, and sends a fixed answer. No server on an event loop is faster.

It takes what one read gives for one request, and looks at nothing in it.
"""

import asyncio
import sys
from typing import Any, Final

import uvloop

BODY: Final = (
    b'{"price":10.450583572,"delta":0.636830651,"gamma":0.018762017,"vega":37.524034691,"theta":-6.414027546,'
    b'"rho":53.232481545,"method":"model","engine":"litert","reason":null,"error_bound":{"price":1.0e-7,"delta":1.0e-7,'
    b'"gamma":1.0e-7,"vega":1.0e-6,"theta":1.0e-6,"rho":1.0e-6},"model":{"name":"black-scholes","version":"2.0.0"}}'
)
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 12:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"x-request-id: 0123456789abcdef0123456789abcdef\r\n"
)
ANSWER: Final = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


class Nothing(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        self._write = transport.write

    def data_received(self, _: bytes) -> None:
        """A request, whatever it says."""
        self._write(ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
