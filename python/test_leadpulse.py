"""python3 -m unittest discover -s python, with the program in LEADPULSE_BIN or on PATH."""

import http.server
import json
import sys
import threading
import unittest
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import leadpulse  # noqa: E402

RANKED = [{"entity_id": f"A{number}", "probability": 0.5, "band": None} for number in range(5)]


class Worker(http.server.BaseHTTPRequestHandler):
    """Pages of two rows, for clients with the token."""

    asked = []

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
        Worker.asked.append(query)
        if self.headers["Authorization"] != "Bearer sesame":
            self.answer(401, {"detail": "no known client", "hint": "send a token"})
            return
        start = int(query.get("cursor", 0))
        end = start + 2
        self.answer(200, {"scores": RANKED[start:end], "next_cursor": str(end) if end < len(RANKED) else None})

    def answer(self, code, body):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


class Scores(unittest.TestCase):
    def setUp(self):
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Worker)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        Worker.asked.clear()

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()

    def test_pages_become_one_table(self):
        table = leadpulse.scores(self.url, task="wins", token="sesame", band="hot")
        self.assertEqual(table.column("entity_id").to_pylist(), [row["entity_id"] for row in RANKED])
        self.assertEqual([one.get("cursor") for one in Worker.asked], [None, "2", "4"])
        self.assertTrue(all(one["task"] == "wins" and one["band"] == "hot" for one in Worker.asked))

    def test_a_refusal_comes_in_the_words_of_the_worker(self):
        with self.assertRaises(leadpulse.LeadpulseError) as refused:
            leadpulse.scores(self.url)
        self.assertEqual(str(refused.exception), "no known client; send a token")

    def test_nobody_there_is_an_error_with_the_address(self):
        with self.assertRaises(leadpulse.LeadpulseError) as refused:
            leadpulse.scores("http://127.0.0.1:1")
        self.assertIn("http://127.0.0.1:1", str(refused.exception))


class Program(unittest.TestCase):
    def test_a_failure_has_the_words_of_the_program(self):
        with self.assertRaises(leadpulse.LeadpulseError) as failed:
            leadpulse.run("schema", "check", "nowhere")
        self.assertIn("nowhere", failed.exception.log)


if __name__ == "__main__":
    unittest.main()
