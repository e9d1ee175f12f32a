"""python -m suites.libero.standin DIRECTORY: write the stand-in assets there."""

import argparse
from pathlib import Path

from suites.libero.standin import VERSION, generate

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m suites.libero.standin", description=__doc__)
    parser.add_argument("directory", type=Path, help="new or empty directory")
    directory = parser.parse_args().directory
    try:
        generate(directory)
    except FileExistsError as error:
        parser.error(str(error))
    files = [path for path in directory.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"stand-in assets, version {VERSION}: {len(files)} files, {size:.1f} MB in {directory}")
