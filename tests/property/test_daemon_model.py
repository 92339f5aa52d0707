"""Random commits against one real daemon; after each it must run what a simple model says.

The model (`tests.property.model`) knows nothing of our code: it works out for itself whether a
commit is valid, which entities it means, what their digest is, and what a client gets. The daemon
is asked for all of it over its control socket and, on every worker, through the proxy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.harness import processes
from tests.harness.site import Site
from tests.property.model import BASE, FAULTS, STYLES, Cluster, File, Tree, base_entities, digest

LONG = bool(os.environ.get("KAKEHI_TEST_LONG"))
EXAMPLES, STEPS = (40, 50) if LONG else (5, 25)

WHO = ("red", "blue", "green")
PATHS = ("a.yaml", "b.yaml", "teams/c.yaml", "teams/deep/d.yaml")
CLUSTERS = ("one", "two", "three")
FRONTENDS = ("f1", "f2", "f3", "f4")
HOSTS = ("h1", "h2", "h3")
POLICIES = ("p1", "p2")

a_path = st.sampled_from(PATHS)
a_cluster = st.sampled_from(CLUSTERS)
a_frontend = st.sampled_from(FRONTENDS)
a_host = st.sampled_from(HOSTS)
a_policy = st.sampled_from(POLICIES)
a_text = st.sampled_from(("a", "b"))
some_policies = st.lists(a_policy, unique=True).map(lambda names: tuple(sorted(names)))
some_backends = st.dictionaries(
    st.sampled_from(("b1", "b2")), st.tuples(st.sampled_from(WHO), st.sampled_from((100, 1, 0)))
)
whole_clusters = st.builds(Cluster, backends=some_backends, retries=st.integers(0, 10))


class Commits(RuleBasedStateMachine):
    """One branch, one daemon, and what the model says that it runs."""

    site: ClassVar[Site]
    compared: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        settings_given = {
            "access_log": str(self.site.daemon.access_log),
            "drain_timeout": 20000,
            "generation_header": True,
        }
        self.base = base_entities(settings_given, self.site.address)
        self.tree = Tree()
        self.applied = Tree()
        self.history: list[tuple[str, Tree]] = []
        self.generation = self.site.running()[0]

    @initialize(cluster=whole_clusters)
    def begin(self, cluster: Cluster) -> None:
        """From whatever the last example left."""
        self.site.repo.git("clean", "-dfq")
        self.write(Tree())
        self.site.repo.commit({}, "begin")
        self._settle(Tree(), exact=False)
        one = File({"one": cluster}, {"f1": ("h1", "one", ("p1",))}, {"p1": "a", "p2": "a"})
        self.commit(Tree({"a.yaml": one}))

    # Edits

    @rule(path=a_path, name=a_cluster, cluster=whole_clusters)
    def put_a_cluster(self, path: str, name: str, cluster: Cluster) -> None:
        path = self.tree.where("clusters", name) or path
        clusters = {**self._file(path).clusters, name: cluster}
        self.commit(self.tree.with_file(path, clusters=clusters))

    @rule(path=a_path, name=a_frontend, host=a_host, cluster=a_cluster, policies=some_policies)
    def put_a_frontend(
        self, path: str, name: str, host: str, cluster: str, policies: tuple[str, ...]
    ) -> None:
        """Now and then to a cluster that is not there, or with another one's host."""
        path = self.tree.where("frontends", name) or path
        frontends = {**self._file(path).frontends, name: (host, cluster, policies)}
        self.commit(self.tree.with_file(path, frontends=frontends))

    @rule(path=a_path, name=a_policy, text=a_text)
    def put_a_policy(self, path: str, name: str, text: str) -> None:
        """Now and then in contradiction to another one of a frontend."""
        path = self.tree.where("policies", name) or path
        policies = {**self._file(path).policies, name: text}
        self.commit(self.tree.with_file(path, policies=policies))

    @rule(text=a_text)
    def have_all_policies_say_the_same(self, text: str) -> None:
        tree = self.tree
        for path, file in self.tree.items():
            tree = tree.with_file(path, policies=dict.fromkeys(file.policies, text))
        self.commit(tree)

    @rule(name=a_policy)
    def remove_a_policy(self, name: str) -> None:
        """Which leaves frontends that still name it dangling."""
        path = self.tree.where("policies", name)
        if path is not None:
            policies = _without(self._file(path).policies, name)
            self.commit(self.tree.with_file(path, policies=policies))

    @rule(name=a_frontend)
    def remove_a_frontend(self, name: str) -> None:
        path = self.tree.where("frontends", name)
        if path is not None:
            self.commit(
                self.tree.with_file(path, frontends=_without(self._file(path).frontends, name))
            )

    @rule(name=a_cluster)
    def remove_a_cluster(self, name: str) -> None:
        """Which leaves frontends that still lead there dangling."""
        path = self.tree.where("clusters", name)
        if path is not None:
            self.commit(
                self.tree.with_file(path, clusters=_without(self._file(path).clusters, name))
            )

    @rule(name=a_frontend, new=a_frontend)
    def rename_a_frontend(self, name: str, new: str) -> None:
        path = self.tree.where("frontends", name)
        if path is not None and self.tree.where("frontends", new) is None:
            frontends = dict(self._file(path).frontends)
            frontends[new] = frontends.pop(name)
            self.commit(self.tree.with_file(path, frontends=frontends))

    @rule(name=a_cluster, new=a_cluster)
    def rename_a_cluster_with_all_that_lead_to_it(self, name: str, new: str) -> None:
        if self.tree.where("clusters", name) is None or self.tree.where("clusters", new):
            return
        tree = self.tree
        for path, file in self.tree.items():
            clusters = {new if each == name else each: c for each, c in file.clusters.items()}
            frontends = {
                each: (host, new if cluster == name else cluster, policies)
                for each, (host, cluster, policies) in file.frontends.items()
            }
            tree = tree.with_file(path, clusters=clusters, frontends=frontends)
        self.commit(tree)

    @rule(name=a_frontend, to=a_path)
    def move_a_frontend_to_another_file(self, name: str, to: str) -> None:
        path = self.tree.where("frontends", name)
        if path is None or path == to or self._file(to).fault or self._file(path).fault:
            return
        frontend = self._file(path).frontends[name]
        tree = self.tree.with_file(path, frontends=_without(self._file(path).frontends, name))
        self.commit(tree.with_file(to, frontends={**self._file(to).frontends, name: frontend}))

    @rule(path=a_path, to=a_path)
    def rename_a_file(self, path: str, to: str) -> None:
        if path in self.tree and to not in self.tree:
            self.commit(Tree({**self.tree.without(path), to: self.tree[path]}))

    @rule(path=a_path)
    def remove_a_file(self, path: str) -> None:
        if path in self.tree:
            self.commit(self.tree.without(path))

    @rule(path=a_path, style=st.sampled_from(STYLES))
    def reformat_a_file(self, path: str, style: str) -> None:
        if path in self.tree:
            self.commit(self.tree.with_file(path, style=style))

    @rule(path=a_path, fault=st.sampled_from(sorted(FAULTS)))
    def break_a_file(self, path: str, fault: str) -> None:
        self.commit(self.tree.with_file(path, fault=fault))

    @precondition(lambda self: not self.tree.is_valid())
    @rule()
    def mend(self) -> None:
        self.commit(self.applied)

    # History

    @precondition(lambda self: len(self.history) > 1)
    @rule()
    def revert(self) -> None:
        before = self.history[-2][1]
        if self._texts(before) == self._texts(self.tree):
            return  # git refuses to revert what changes nothing
        self.site.repo.git("revert", "--no-edit", *self._mainline(), "HEAD")
        self._settle(before)

    @precondition(lambda self: len(self.history) > 2)
    @rule(back=st.integers(1, 5))
    def reset_to_an_older_commit(self, back: int) -> None:
        del self.history[max(1, len(self.history) - back) :]
        sha, tree = self.history.pop()
        self.site.repo.git("reset", "--quiet", "--hard", sha)
        self._settle(tree)

    @precondition(lambda self: len(self.history) > 1)
    @rule(path=a_path, name=a_cluster, cluster=whole_clusters)
    def amend(self, path: str, name: str, cluster: Cluster) -> None:
        path = self.tree.where("clusters", name) or path
        tree = self.tree.with_file(
            path, clusters={**self._file(path).clusters, name: cluster}, fault=""
        )
        self.write(tree)
        self.site.repo.git("add", "--all")
        self.site.repo.git("commit", "--quiet", "--amend", "--allow-empty", "-m", "amended")
        self.history.pop()
        self._settle(tree)

    @rule(ours=a_path, theirs=a_path, file=st.builds(File, style=st.sampled_from(STYLES)))
    def merge_two_branches(self, ours: str, theirs: str, file: File) -> None:
        """Each side changes another file."""
        if ours == theirs or ours not in self.tree:
            return
        git = self.site.repo.git
        git("checkout", "--quiet", "-b", "side")
        self.write(Tree({**self.tree, theirs: file}))
        self.site.repo.commit({}, "side")
        git("checkout", "--quiet", "main")
        styles = [style for style in STYLES if style != self.tree[ours].style]
        restyled = self.tree.with_file(ours, style=styles[0])
        self.write(restyled)
        self.history.append((self.site.repo.commit({}, "main"), restyled))
        git("merge", "--quiet", "--no-ff", "-m", "merged", "side")
        git("branch", "--quiet", "-D", "side")
        # The daemon may have seen the branch between its two moves.
        self._settle(Tree({**restyled, theirs: file}), exact=False)

    @rule(prune=st.booleans())
    def gc(self, prune: bool) -> None:
        if prune:
            self.site.repo.git("reflog", "expire", "--expire=now", "--all")
            self.site.repo.git("gc", "--quiet", "--prune=now")
            self.history = self.history[-1:]
        else:
            self.site.repo.git("pack-refs", "--all")
        self._settle(self.tree, moved=False)

    # What holds after each

    def commit(self, tree: Tree) -> None:
        self.write(tree)
        self.site.repo.commit({}, "a change")
        self._settle(tree)

    def write(self, tree: Tree) -> None:
        """Make the working tree that one."""
        directory = self.site.repo.directory
        for path in {str(each.relative_to(directory)) for each in directory.rglob("*.yaml")}:
            if path not in tree and path != BASE:
                (directory / path).unlink()
        self.site.repo.write(self._texts(tree))

    def _texts(self, tree: Tree) -> dict[str, str]:
        addresses = self.site.backends.address
        return {path: file.content(addresses) for path, file in tree.items()}

    def _settle(self, tree: Tree, *, exact: bool = True, moved: bool = True) -> None:
        """HEAD is `tree`: wait for what becomes of it, and compare everything with the model."""
        sha = self.site.repo.head()
        self.tree = tree
        if moved:
            self.history.append((sha, tree))
        processes.wait_until(lambda: self._is_decided(sha), f"{sha} is decided", 60)
        if tree.is_valid():
            before, self.applied = self._entities(), tree
            changed = digest(before) != digest(self._entities())
            expected = self.generation + changed
        else:
            expected = self.generation
        self._compare(sha, expected, exact=exact)

    def _is_decided(self, sha: str) -> bool:
        if self.site.daemon.outcome(sha) not in ("applied", "refused"):
            return False
        status = self.site.daemon.ask("status")
        error = status["last_error"]
        # What runs is known as applied before a look has taken back what was refused since.
        return status["commit"] == sha if error is None else error["commit"] == sha

    def _entities(self) -> dict[tuple[str, str], tuple[dict[str, Any], str]]:
        return self.applied.entities(self.base, self.site.backends.address)

    def _compare(self, sha: str, generation: int, *, exact: bool) -> None:
        Commits.compared += 1
        site, entities = self.site, self._entities()
        status = site.daemon.ask("status")
        assert (status["last_error"] is None) == self.tree.is_valid()
        assert (status["commit"] == sha) == self.tree.is_valid()
        shown = site.daemon.ask("show")
        assert {
            (each["kind"], each["name"]): (each["value"], each["source"]["file"])
            for each in shown["entities"]
        } == entities
        running, running_digest = site.running()
        assert running_digest == digest(entities)
        assert running == generation or (not exact and running > generation)
        assert shown["generation"] == running
        self.generation = running
        for host in HOSTS:
            for pid, answer in site.kept(f"{host}.test").items():
                assert answer in self.applied.answers(host), f"{host} on worker {pid}"
            for pid, said in site.kept_field(f"{host}.test", "x-said").items():
                assert said == self.applied.said(host), f"{host} on worker {pid}"

    def _file(self, path: str) -> File:
        return self.tree.get(path, File())

    def _mainline(self) -> list[str]:
        parents = self.site.repo.git("rev-list", "--parents", "-n1", "HEAD").split()
        return ["-m", "1"] if len(parents) > 2 else []


def _without(entries: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key != name}


def test_the_daemon_runs_what_the_model_says(tmp_path: Path) -> None:
    with Site(tmp_path, WHO) as site:
        site.start(
            {BASE: {"settings": site.settings, "listeners": {"main": {"address": site.address}}}}
        )
        Commits.site = site
        workers = site.identity()
        run_state_machine_as_test(
            Commits,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=not LONG,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
        assert site.identity() == workers
        print(f"{Commits.compared} states compared, generation {site.running()[0]}")
        assert Commits.compared > EXAMPLES * STEPS // 2
