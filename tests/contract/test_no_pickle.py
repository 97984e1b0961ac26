"""Nothing that is loaded can run code: no pickle anywhere in the package."""

import ast
from pathlib import Path

SOURCES = sorted((Path(__file__).parents[2] / "src" / "ushape").rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def imported(tree: ast.AST) -> set[str]:
    """Packages that a module imports, also within functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Calls of a function, by its dotted name."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_nothing_loads_a_pickle() -> None:
    loads = 0
    assert len(SOURCES) > 100
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert not imported(tree) & UNPICKLERS, path
        for call in calls(tree, "torch.load"):
            loads += 1
            assert {
                word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg == "weights_only"
            } == {"weights_only": True}, f"{path}:{call.lineno}"
        for call in calls(tree, "np.load") + calls(tree, "numpy.load"):
            assert not call.keywords, f"{path}:{call.lineno}"  # allow_pickle is off by default
    assert loads == 1, "weights of an encoder that a user gives"
