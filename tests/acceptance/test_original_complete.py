"""That no row of the original about its caching module, no line of the acceptance list and no pitfall is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

#: The rows of the original about its caching module.
ROWS = re.findall(
    r"\w+",
    """
    versioned_config_env_var_override versioned_config_version_check versioned_config_oss_default versioned_config_jk_failure
    selected_isolation_context all_or_none_isolation_context isolation_key_is_distinct isolation_key_is_repeatable
    select_runtime_context_matches_forms_of_context select_compile_context_matches_forms_of_context
    exception_is_CacheError exception_other
    get insert insert_will_not_overwrite key_encoding value_encoding value_decoding version_mismatch
    defaults custom_params_encoder custom_result_encoder_and_decoder custom_ischema params_encoder_required
    result_encoder_required result_encoder_and_decoder_required strictly_pre_populated_determinism
    strictly_cached_determinism caching_module_disabled deterministic_caching_disabled
    BLOCKING NON_BLOCKING BLOCKING_WITH_TIMEOUT acquire_with_timeout acquire_many_impl_locks_with_timeout
    lru_cache try_pickle_key try_pickle_value try_unpickle_value
    """,
)


#: What the original was measured to get wrong: P01 to P27 of the list of pitfalls.
PITFALLS = {f"p{number:02}" for number in range(1, 28)}


def acceptance_tests() -> dict[str, str]:
    """Return the docstring of each acceptance test, by module and name."""
    tests: dict[str, str] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                tests[f"{path.stem}.{node.name}"] = ast.get_docstring(node) or ""
    return tests


def test_every_row_and_every_line_is_shown() -> None:
    """Each of the 39 rows has a test of its name, and each line of the list, 1 to 24, one whose docstring says its number."""
    tests = acceptance_tests()
    names = {name.partition(".")[2] for name in tests}
    assert len(ROWS) == 39
    assert {f"test_{row}" for row in ROWS} - names == set()
    lines = {int(found[1]) for doc in tests.values() if (found := re.match(r"SPEC (\d+): ", doc))}
    assert lines == set(range(1, 25))


def test_every_pitfall_is_shown() -> None:
    """Each of P01 to P27 has a test that begins with its number, and no test has a number that is none of them."""
    names = {name.partition(".")[2] for name in acceptance_tests()}
    numbers = {found[1] for name in names if (found := re.match(r"test_(p\d+)_", name))}
    assert numbers == PITFALLS
