"""What kopf is told; the rest of it is tried on a real cluster."""

from pinn_operator.handlers import settings_of
from pinn_operator.kube import PAGE


def test_kopf_reads_all_objects_page_by_page_and_drops_each_soon_after_its_event() -> None:
    settings = settings_of()
    assert settings.watching.chunk_size == PAGE
    assert settings.queueing.idle_timeout <= 1
