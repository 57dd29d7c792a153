"""Renders the overlays of containers/kubernetes, where there is no kustomize: that part of it which they use, no more.

    python tests/containers/kustomize.py containers/kubernetes/overlays/production FILE

Known: ``resources``, ``namespace``, ``configMapGenerator`` (literals, merge), ``images`` (newTag), ``patches`` (JSON
Patch by ``path``, add and replace). Anything else is refused, so that nothing is left out in silence. Where kubectl is
installed, a test compares the two.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

KNOWN = {"apiVersion", "kind", "resources", "namespace", "configMapGenerator", "images", "patches"}


def render(folder: Path) -> list[Manifest]:
    """Return the manifests of the kustomization in ``folder``. Raises ValueError for what is not known here."""
    manifests = _raw(folder)
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            _name_by_content(manifest, manifests)
    return manifests


def _raw(folder: Path) -> list[Manifest]:
    asked = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := asked.keys() - KNOWN:
        raise ValueError(f"{folder}: {', '.join(sorted(unknown))} is not known here")
    manifests: list[Manifest] = []
    for resource in asked.get("resources", ()):
        path = folder / resource
        manifests += _raw(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for generated in asked.get("configMapGenerator", ()):
        _generate(generated, manifests)
    for patch in asked.get("patches", ()):
        (target,) = [each for each in manifests if _is(each, **patch["target"])]
        for step in yaml.safe_load((folder / patch["path"]).read_text()):
            _patch(target, **step)
    tags = {image["name"]: image["newTag"] for image in asked.get("images", ())}
    for container in _containers(manifests):
        if container["image"] in tags:
            container["image"] += f":{tags[container['image']]}"
    for manifest in manifests if "namespace" in asked else ():
        if manifest["kind"] != "Namespace":
            manifest["metadata"]["namespace"] = asked["namespace"]
    return manifests


def _is(manifest: Manifest, kind: str, name: str) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)


def _generate(asked: Manifest, manifests: list[Manifest]) -> None:
    data = dict(literal.split("=", 1) for literal in asked["literals"])
    if asked.get("behavior") == "merge":
        (base,) = [each for each in manifests if _is(each, "ConfigMap", asked["name"])]
        base["data"].update(data)
    else:
        manifests.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": asked["name"]}, "data": data})


def _patch(target: Any, *, op: str, path: str, value: Any) -> None:
    *parents, last = path.strip("/").split("/")
    for key in parents:
        target = target[int(key) if isinstance(target, list) else key]
    if op == "add" and last == "-":
        target.append(value)
    elif op == "add" or (op == "replace" and last in target):
        target[last] = value
    else:
        raise ValueError(f"{op} {path}: not known here, or there is nothing to replace")


def _containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            yield from manifest["spec"]["template"]["spec"]["containers"]


def _name_by_content(config: Manifest, manifests: list[Manifest]) -> None:
    # kustomize's own: SHA-256 of compact JSON with sorted keys, in which the name is always empty; ten hex digits
    # without those that could spell a word.
    name = config["metadata"]["name"]
    told = json.dumps({"data": config["data"], "kind": "ConfigMap", "name": ""}, sort_keys=True, separators=(",", ":"))
    digits = hashlib.sha256(told.encode()).hexdigest()[:10].translate(str.maketrans("013ae", "ghkmt"))
    config["metadata"]["name"] = f"{name}-{digits}"
    for container in _containers(manifests):
        for source in container.get("envFrom", ()):
            if source["configMapRef"]["name"] == name:
                source["configMapRef"]["name"] = config["metadata"]["name"]


if __name__ == "__main__":
    # Anchors are for those who write by hand.
    yaml.SafeDumper.ignore_aliases = lambda *_: True
    Path(sys.argv[2]).write_text(yaml.safe_dump_all(render(Path(sys.argv[1])), sort_keys=False))
