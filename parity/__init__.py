"""The judge: do two implementations of GPT-2 agree? It knows shapes and rounding, and no GPT-2 maths of its own.

In Python: `check_function` judges a function on random cases, `assert_agrees` a result on given inputs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.own_function import check_function as check_function
    from parity.verdict.agreement import assert_agrees as assert_agrees

__all__ = ["assert_agrees", "check_function"]


def __getattr__(name: str) -> Any:  # pytest imports this package in every run, and it is to import nothing then
    if name == "check_function":
        from parity.own_function import check_function

        return check_function
    if name == "assert_agrees":
        from parity.verdict.agreement import assert_agrees

        return assert_agrees
    raise AttributeError(name)
