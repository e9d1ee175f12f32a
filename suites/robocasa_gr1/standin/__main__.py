"""python -m suites.robocasa_gr1.standin CHECKOUT_COPY: write the stand-in assets into a copy of upstream's checkout."""

import argparse
from pathlib import Path

from suites.robocasa_gr1.standin import ASSETS, VERSION, generate

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m suites.robocasa_gr1.standin", description=__doc__)
    parser.add_argument("checkout", type=Path, help="copy of robocasa-gr1-tabletop-tasks without assets")
    checkout = parser.parse_args().checkout
    try:
        generate(checkout)
    except (FileExistsError, FileNotFoundError) as error:
        parser.error(str(error))
    files = [path for path in (checkout / ASSETS).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"stand-in assets, version {VERSION}: {len(files)} files, {size:.1f} MB in {checkout / ASSETS}")
