from __future__ import annotations

from feedback.plugins import PluginReport, Plugins


def test_the_newest_report_of_each_instance_is_kept() -> None:
    plugins = Plugins()
    for instance, fallbacks in (("a", 1), ("b", 2), ("a", 3)):
        plugins.report(PluginReport(instance, counters={"fallbacks": fallbacks}))
    assert [(one.instance, one.counters["fallbacks"]) for one in plugins.newest] == [("b", 2), ("a", 3)]


def test_at_most_a_thousand_instances_are_remembered() -> None:
    plugins = Plugins()
    for number in range(1200):
        plugins.report(PluginReport(f"proxy-{number}"))
    assert len(plugins.newest) == 1000
    assert plugins.newest[0].instance == "proxy-200"
