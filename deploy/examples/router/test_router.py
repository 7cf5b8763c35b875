"""python3 -m unittest discover deploy/examples/router"""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from router import Ledger, Router, Rules, unframed  # noqa: E402


def alert(alert_id, **fields):
    return {"alert_id": alert_id, "severity": "P2", "type": "threshold_up", "task": "wins", "state": "open", "region": "EMEA", **fields}


class Deliveries(unittest.TestCase):
    def setUp(self):
        self.sent = []
        self.rules = Rules([{"severity_at_least": "P1", "to": "pager"}, {"region": ["EMEA", "DACH"], "to": "emea"}])

    def deliver(self, destination, one):
        self.sent.append((destination, one["alert_id"]))

    def test_an_alert_that_comes_twice_is_delivered_once(self):
        router = Router(self.rules, Ledger(), self.deliver)
        self.assertEqual([router.take(alert("a")), router.take(alert("a"))], ["delivered", "known"])
        self.assertEqual(self.sent, [("emea", "a")])

    def test_a_ledger_outlives_its_process(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/ledger.sqlite"
            Router(self.rules, Ledger(path), self.deliver).take(alert("a"))
            again = Router(self.rules, Ledger(path), self.deliver)
            self.assertEqual(again.take(alert("a")), "known")
        self.assertEqual(len(self.sent), 1)

    def test_a_delivery_that_failed_is_made_again_under_its_key(self):
        failures = [True, False]

        def flaky(destination, one):
            self.sent.append((destination, one["alert_id"]))
            if failures.pop(0):
                raise ConnectionError("no answer")

        router = Router(self.rules, Ledger(), flaky)
        with self.assertRaises(ConnectionError):
            router.take(alert("a"))
        self.assertEqual(router.take(alert("a")), "delivered")
        self.assertEqual(self.sent, [("emea", "a"), ("emea", "a")])

    def test_the_first_rule_that_fits_decides(self):
        cases = [
            (alert("a", severity="P1"), "pager"),
            (alert("b"), "emea"),
            (alert("c", region="APAC"), None),
            (alert("d", severity="unknown", region="DACH"), "emea"),
            (alert("e", severity="P1", hold_out=True), None),
        ]
        for one, expected in cases:
            self.assertEqual(self.rules.destination(one), expected, one["alert_id"])

    def test_rules_that_cannot_work_are_refused(self):
        for faulty in [[{"region": "EMEA"}], [{"severity_at_least": "high", "to": "x"}]]:
            with self.assertRaises(ValueError):
                Rules(faulty)

    def test_a_value_without_framing_is_refused(self):
        self.assertEqual(unframed(b"\0\0\0\0\7rest"), (7, b"rest"))
        for value in [b"", b"\1\0\0\0\7rest", b"{}"]:
            with self.assertRaises(ValueError):
                unframed(value)


if __name__ == "__main__":
    unittest.main()
