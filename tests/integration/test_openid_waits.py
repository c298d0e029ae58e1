"""A provider that says nothing holds few of the threads that answer everybody."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

from dicom_node.config.openid import OidcSettings
from dicom_node.core.errors import ProviderAway
from dicom_node.people.openid.provider import Provider
from tests.peers.process import wait_until


def test_few_wait_for_a_provider_that_says_nothing_and_others_are_told_so_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(10) as pool:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        provider = Provider(
            OidcSettings(
                issuer=url, client_id="node", client_secret="secret", public_url="https://node", roles={"a": "viewer"}
            )
        )
        asked = [pool.submit(provider.metadata) for _ in range(10)]
        wait_until(lambda: sum(one.done() for one in asked) == 7, 60, "those that are not to wait")
        told = [one.exception() for one in asked if one.done()]
        connection, _ = silent.accept()
        connection.close()
        assert all("others wait for its answer already" in str(one) for one in told)
        assert all(isinstance(one.exception(60), ProviderAway) for one in asked)
