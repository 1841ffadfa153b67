"""A web server that shows its files to whoever has the token."""

import ssl
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Guarded(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers.get("authorization") == "Bearer wonderland":
            super().do_GET()
        else:
            self.send_error(401)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server = ThreadingHTTPServer(("", 8443), partial(Guarded, directory="/data/web"))
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
