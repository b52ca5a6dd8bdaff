"""Look at the installed package: it is the built one, it is whole, and it starts light."""

import sys
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import bluejay_ws

assert Path(sys.prefix) in Path(bluejay_ws.__file__).parents, f"not the installed package: {bluejay_ws.__file__}"
assert bluejay_ws.__version__ == metadata.version("bluejay_ws")
assert "pydantic" not in sys.modules and "anyio" not in sys.modules, "importing the package imports too much"
assert files("bluejay_ws").joinpath("py.typed").is_file()
assert files("bluejay_ws.testing").joinpath("assets", "caller.wav").is_file()
plugins = metadata.distribution("bluejay_ws").entry_points.select(group="pytest11")
assert [plugin.value for plugin in plugins] == ["bluejay_ws.pytest_plugin"]
assert not bluejay_ws.current_recorder().active
print(f"bluejay_ws {bluejay_ws.__version__} is installed and whole")
