"""What the forge and git run is what people run, and nothing is said twice."""

import re

import yaml

from dicom_assets_tests.support.layout import ROOT, pyproject


def test_the_workflow_calls_the_script_of_ci() -> None:
    """With the oldest Python that is supported, and with no right to write."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}
    oldest = pyproject()["project"]["requires-python"].removeprefix(">=")
    assert [s["with"]["python-version"] for s in steps if "setup-python" in s.get("uses", "")] == [
        oldest
    ]


def test_the_hook_runs_a_target_of_the_makefile() -> None:
    """So its tools have the versions of the lock."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (hook,) = (hook for repo in config["repos"] for hook in repo["hooks"])
    command, target = hook["entry"].split()
    assert command == "make"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
