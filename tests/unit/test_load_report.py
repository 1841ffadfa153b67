"""What the end-to-end tests read in the log of a pod that sends requests."""

from tests.e2e.kubectl import report_in


def test_the_report_is_read_before_what_the_kubelet_says_of_the_logs_end() -> None:
    log = '{"sent": 152, "failed": 0}\nan error occurred when try to find container "ce4a": not found'
    assert report_in(log) == {"sent": 152, "failed": 0}
