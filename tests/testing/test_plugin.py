from pathlib import Path

import pytest

from gateway.testing import MemoryNetwork, SocketNetwork, plugin

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parent.parent / "conftest.py"


async def test_network_is_empty_and_in_memory(network: MemoryNetwork) -> None:
    assert (network.listeners, network.open_streams, network.connects) == ([], [], [])


async def test_each_network_is_one_of_both_kinds(each_network: MemoryNetwork | SocketNetwork) -> None:
    assert isinstance(each_network, MemoryNetwork | SocketNetwork)


def test_each_network_gives_both_kinds_and_closes_its_listeners(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error")
    pytester.makeconftest(f"from {plugin.__name__} import each_network")
    pytester.makepyfile(
        """
        async def test_listen(each_network):
            each_network.listen("service1", 8001)
            print(type(each_network).__name__)
        """
    )
    result = pytester.runpytest_inprocess("-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*MemoryNetwork*", "*SocketNetwork*"])


@pytest.mark.parametrize(
    "mark", ["requirement", "requirement()", 'requirement("")', "requirement(1)", 'requirement(name="X")']
)
def test_requirement_without_its_name_is_an_error(mark: str, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = requirement(name): as here")
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*::test_it: write requirement with its name, *"])
