"""The objects of deploy/helm and deploy/kubernetes: rendered, validated, and their proxy.yaml checked by larder."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_python
import kubernetes_validate
import yaml

import json_patch

DEPLOY = pathlib.Path("deploy")
PROGRAM = sys.argv[1]
# The oldest with everything that the files use, and the newest whose schemas are packaged.
VERSIONS = ["1.30", "1.33"]
# Custom resources of the Prometheus operator.
FOREIGN = {"PodMonitor", "PrometheusRule"}
SECRET_PAGES = [pathlib.Path("docs/install.md"), DEPLOY / "kubernetes/kustomization.yaml", DEPLOY / "helm/examples/sidecar/values.yaml"]
VARIABLES = {"LARDER_REDIS": "redis://redis:6379", "LARDER_ADMIN_TOKEN": "0123456789abcdef"}

passed = 0


def check(name, condition, detail=""):
    global passed
    if not condition:
        sys.exit(f"failed: {name}: {detail}")
    passed += 1
    print(f"ok {name}")


def objects(texts):
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(found, kind):
    return [o for o in found if o["kind"] == kind]


def validate(name, found):
    for described in found:
        if described["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(described, version, strict=True)
    check(f"{name}: {len(found)} objects are valid", found)


def accepts(name, text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        command = [PROGRAM, "check", "--strict", file.name]
        run = subprocess.run(command, env={**os.environ, **VARIABLES}, capture_output=True, text=True)
        check(f"{name}: larder accepts its proxy.yaml", run.returncode == 0, run.stdout + run.stderr)


def larder_container(pod):
    (larder,) = [c for c in [*pod["containers"], *pod.get("initContainers", [])] if c["name"] == "larder"]
    return larder


def variables_from_secret(name, pod, configuration):
    """Every variable of the configuration is a key of the Secret that each page tells the reader to create."""
    larder = larder_container(pod)
    check(f"{name}: the container reads the Secret", {"secretRef": {"name": "larder"}} in larder["envFrom"], larder["envFrom"])
    used = set(re.findall(r"\$\{(\w+)", configuration))
    for page in SECRET_PAGES:
        documented = set(re.findall(r"--from-literal=([^=\s]+)=", page.read_text()))
        check(f"{name}: {page} has the keys of the Secret", used <= documented, (used, documented))


def render(path, values=None, name="test"):
    chart = helm_python.Chart.load(path)
    rendered = chart.render(values or {}, name=name, namespace="default", is_install=True)
    texts = [text for template, text in rendered.items() if template.endswith(".yaml")]
    return objects(texts)


SECRET = {"secret": {"existing": "larder"}}
ROUTES = {"routes": [{"path": "/a", "ttl": "30s"}]}


def alone():
    for problem in (
        ["a token is missing", {}],
        ["an unknown key", {**SECRET, "replica": 3}],
        ["a sidecar needs an API", {**SECRET, "nativeSidecar": True}],
    ):
        try:
            render(DEPLOY / "helm", problem[1])
        except helm_python.errors.HelmError as error:
            check(f"alone: refused, because {problem[0]}", True)
            print("  ", str(error).splitlines()[-1][:120])
        else:
            check(f"alone: refused, because {problem[0]}", False)
    least = render(DEPLOY / "helm", SECRET)
    validate("alone", least)
    check("alone: no more than is needed", [o["kind"] for o in least].count("Secret") == 0)
    configuration = of_kind(least, "ConfigMap")[0]["data"]["proxy.yaml"]
    accepts("alone", configuration)
    variables_from_secret("alone", of_kind(least, "Deployment")[0]["spec"]["template"]["spec"], configuration)

    everything = {
        "secret": {"values": {"LARDER_ADMIN_TOKEN": "x" * 16}},
        "restartOnChange": True,
        "config": ROUTES,
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "networkPolicy": {"enabled": True, "clients": [{"podSelector": {}}], "operators": [{"namespaceSelector": {}}]},
        "podMonitor": {"enabled": True},
        "alerts": {"enabled": True},
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"disk": "none"},
        "tolerations": [{"operator": "Exists"}],
        "image": {"digest": "sha256:" + "0" * 64},
        "podAnnotations": {"a": "b"},
    }
    full = render(DEPLOY / "helm", everything)
    validate("everything on", full)
    rules = of_kind(full, "PrometheusRule")[0]["spec"]
    check("the alerts are those of deploy/monitoring", rules == yaml.safe_load((DEPLOY / "monitoring/alerts.yaml").read_text()))
    container = of_kind(full, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    check("a digest pins the image", container["image"].endswith("@sha256:" + "0" * 64), container["image"])
    ports = {port["name"] for port in container["ports"]}
    monitored = of_kind(full, "PodMonitor")[0]["spec"]["podMetricsEndpoints"][0]["port"]
    check("the monitor's port is the container's", monitored in ports)

    def checksum(values):
        pod = of_kind(render(DEPLOY / "helm", values), "Deployment")[0]["spec"]["template"]["metadata"]
        return pod["annotations"]["checksum/config"]

    other = {**everything, "config": {"routes": [{"path": "/b", "ttl": "30s"}]}}
    check("another configuration has another checksum", checksum(everything) == checksum(everything) != checksum(other))

    def secret_checksum(token):
        values = {"secret": {"values": {"LARDER_ADMIN_TOKEN": token}}}
        pod = of_kind(render(DEPLOY / "helm", values), "Deployment")[0]["spec"]["template"]["metadata"]
        return pod["annotations"]["checksum/secret"]

    check("another secret has another checksum", secret_checksum("x" * 16) == secret_checksum("x" * 16) != secret_checksum("y" * 16))


def order_of_ends(name, pod, drain):
    """The API serves until larder has ended, and both do within the grace period."""
    sleeps = {c["name"]: c["lifecycle"]["preStop"]["sleep"]["seconds"] for c in pod["containers"]}
    grace = pod["terminationGracePeriodSeconds"]
    if pod.get("initContainers"):
        hook = larder_container(pod)["lifecycle"]["preStop"]["exec"]["command"]
        arguments = subprocess.run([PROGRAM, *hook[1:], "--help"], capture_output=True, text=True)
        check(f"{name}: larder understands its preStop", arguments.returncode == 0, arguments.stderr)
        return check(f"{name}: the API, then larder, end in time", sleeps["api"] + drain < grace, sleeps)
    check(f"{name}: larder ends before the API", sleeps["larder"] + drain < sleeps["api"] < grace, sleeps)


def sidecar(name, found):
    validate(name, found)
    configuration = of_kind(found, "ConfigMap")[0]["data"]["proxy.yaml"]
    accepts(name, configuration)
    pod = of_kind(found, "Deployment")[0]["spec"]["template"]["spec"]
    variables_from_secret(name, pod, configuration)
    larder = larder_container(pod)
    order_of_ends(name, pod, int(yaml.safe_load(configuration)["limits"]["drain"].removesuffix("s")))
    service = of_kind(found, "Service")[0]["spec"]
    target = service["ports"][0]["targetPort"]
    check(f"{name}: clients come to larder", target in {port["name"] for port in larder["ports"]})
    pods = of_kind(found, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
    check(f"{name}: the service finds the pods", service["selector"].items() <= pods.items())


def chart_beside_an_api():
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch, "helm")
        shutil.copytree(DEPLOY / "helm", copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        example = copy / "examples/sidecar"
        helm_python.dependency_update(example, skip_refresh=True)
        sidecar("the chart's sidecar", render(example, name="shop"))
        native = render(example, {"larder": {"nativeSidecar": True}}, name="shop")
        pod = of_kind(native, "Deployment")[0]["spec"]["template"]["spec"]
        check("the chart's native sidecar is one", larder_container(pod)["restartPolicy"] == "Always")
        sidecar("the chart's native sidecar", native)
        both = {"larder": {"podMonitor": {"enabled": True}, "networkPolicy": {"enabled": True}}}
        found = render(example, both, name="shop")
        labels = of_kind(found, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
        (monitor,), (policy,) = of_kind(found, "PodMonitor"), of_kind(found, "NetworkPolicy")
        for name, selector in (("monitor", monitor["spec"]["selector"]), ("network policy", policy["spec"]["podSelector"])):
            check(f"the chart's sidecar: the {name} finds the pods", selector["matchLabels"].items() <= labels.items(), selector)


def kustomizations():
    folder = DEPLOY / "kubernetes"
    if kubectl := shutil.which("kubectl"):
        for name, path in (("the kustomization", folder), ("the native sidecar", DEPLOY / "native-sidecar")):
            command = [kubectl, "kustomize", str(path)]
            sidecar(name, objects([subprocess.run(command, check=True, capture_output=True, text=True).stdout]))
    else:
        print("kubectl is not installed: the files one by one")
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        texts = [(folder / file).read_text() for file in listed]
        data = {"proxy.yaml": (folder / "proxy.yaml").read_text()}
        texts.append(yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "larder"}, "data": data}))
        sidecar("the kustomization", objects(texts))
        found = objects(texts)
        json_patch.native_sidecar(of_kind(found, "Deployment")[0])
        sidecar("the native sidecar", found)


def lint():
    result = helm_python.lint(DEPLOY / "helm", SECRET, strict=True)
    check("helm lint", not result.get("errors"), result)


lint()
alone()
chart_beside_an_api()
kustomizations()
print(f"{passed} passed, 0 failed")
