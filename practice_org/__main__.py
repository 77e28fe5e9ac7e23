"""Start the practice org: `python -m practice_org`."""

import argparse
import logging
from pathlib import Path

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from practice_org import create_practice_org
from practice_org.board import now
from practice_org.models import Certificate

HOST = "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(prog="practice_org", description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument(
        "--callback-url",
        action="append",
        help="a Callback URL of the app; may be given several times",
    )
    parser.add_argument("--database", type=Path, help="a file that keeps the tokens")
    parser.add_argument(
        "--certificate", type=Path, help="a PEM file: who has its key signs assertions"
    )
    given = parser.parse_args()
    app = create_practice_org(
        given.database, given.callback_url or ["http://localhost:8000/callback"]
    )
    if given.certificate:
        try:
            with app.app_context():
                Certificate.upload(given.certificate.read_text())
        except (OSError, ValueError) as error:
            parser.error(f"{given.certificate}: {error}")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(HOST, given.port, app, threaded=True, request_handler=Handler)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


class Handler(WSGIRequestHandler):
    """Speaks HTTP/1.1, so that clients keep their connections as with Salesforce."""

    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Date every answer by the org's clock."""
        if timestamp is None:
            app = self.server.app
            assert isinstance(app, Flask)
            with app.app_context():
                timestamp = now()
        return super().date_time_string(timestamp)


if __name__ == "__main__":
    main()
