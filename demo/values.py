"""Print chart values for images just built and a Vault at hand."""

import argparse
import json
from pathlib import Path

import yaml


def main() -> None:
    """Read build/images.json and print YAML."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="images.json of images/build --push")
    parser.add_argument("--version", required=True)
    parser.add_argument("--vault-address", required=True)
    parser.add_argument("--vault-ca", type=Path, required=True)
    parser.add_argument("--vault-cidrs", required=True)
    parser.add_argument("--api-cidrs", required=True)
    parser.add_argument("--api-port", type=int, required=True)
    arguments = parser.parse_args()
    images = {name: entry["reference"] for name, entry in json.loads(arguments.images.read_text()).items()}
    operator = images.pop("operator")
    values = {
        "image": operator,
        "vault": {
            "address": arguments.vault_address,
            "caPem": arguments.vault_ca.read_text(),
            "authPath": "pacs-kubernetes",
            "audience": "vault",
            "cidrs": arguments.vault_cidrs.split(","),
        },
        "catalog": {
            "name": "stable",
            "floor": arguments.version,
            "releases": [{"version": arguments.version, "images": images}],
        },
        "networkPolicy": {"apiServer": {"cidrs": arguments.api_cidrs.split(","), "port": arguments.api_port}},
        "admission": {"breakGlassGroups": ["pacs-break-glass"]},
    }
    print(yaml.safe_dump(values, sort_keys=False))


if __name__ == "__main__":
    main()
