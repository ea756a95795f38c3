"""One tree of errors: drawn as it is, each with a code of its own, and the branch answers whether to try again."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import vodkeep
from vodkeep import errors
from vodkeep.errors import PermanentError, RequestRefused, SettingsError, TransientError, VodkeepError
from vodkeep.web.problems import response_for

DRAWN = re.compile(r"^[ │]*[├└]── (\w+)", re.MULTILINE)
SYSTEMIC = {"NetworkError", "ServerError", "CredentialsError"}


def every_error() -> set[type[VodkeepError]]:
    """All that are ours, wherever they are declared."""
    for module in pkgutil.walk_packages(vodkeep.__path__, "vodkeep."):
        if "__main__" not in module.name and ".migrations." not in module.name:
            importlib.import_module(module.name)
    found: set[type[VodkeepError]] = set()
    waiting = [VodkeepError]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    return {kind for kind in found if kind.__module__.startswith("vodkeep.")}


ERRORS = sorted(every_error(), key=lambda kind: kind.__name__)


def test_the_tree_is_drawn_as_it_is() -> None:
    assert errors.__doc__ is not None
    here = {name for name, value in vars(errors).items() if isinstance(value, type)} - {"VodkeepError"}
    assert sorted(DRAWN.findall(errors.__doc__)) == sorted(here)
    marked = {line.split("── ")[1].split()[0] for line in errors.__doc__.splitlines() if "(systemic)" in line}
    assert marked == SYSTEMIC


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_hangs_on_one_branch(kind: type[VodkeepError]) -> None:
    branches = (SettingsError, TransientError, PermanentError, RequestRefused)
    assert kind is VodkeepError or sum(issubclass(kind, branch) for branch in branches) == 1
    assert re.fullmatch(r"[a-z_]+", kind.code)
    assert kind.systemic == any(parent.__name__ in SYSTEMIC for parent in kind.__mro__)


def test_the_codes_of_the_tree_tell_its_errors_apart() -> None:
    codes = [kind.code for kind in ERRORS if kind.__module__ == "vodkeep.errors"]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnknownItem("There is no item 7."), 404),
        (RequestRefused("Item 7 is done."), 409),
        (errors.RateLimited("Slow down.", delay_s=7), 429),
        (errors.DatabaseUnavailable("It is away."), 503),
        (errors.NetworkError("No answer."), 503),
        (PermanentError("It was deleted.", code="deleted"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_branch_has_its_status(error: VodkeepError, status: int) -> None:
    response = response_for(error)
    assert response.status_code == status
    assert ("retry-after" in response.headers) == isinstance(error, TransientError)
