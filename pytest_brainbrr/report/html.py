"""The report as one self-contained HTML page (extra ``report``: jinja2, which escapes what trainers print)."""

from collections import Counter
from collections.abc import Sequence

import jinja2

from pytest_brainbrr.report.terminal import NOT_FOR_TRAINING
from pytest_brainbrr.results import Report

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Smoke report</title>
<style>
  :root { color-scheme: light dark; --failed: #c62828; --warned: #b26a00; --passed: #2e7d32; --vacuous: #757575; }
  body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { margin: 2.2rem 0 .4rem; }
  table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
  th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
  td:first-child { white-space: nowrap; }
  .mark { display: inline-block; min-width: 5rem; padding: 0 .4rem; border-radius: .2rem; color: #fff;
          text-align: center; }
  {% for status in ("failed", "warned", "passed", "vacuous") -%}
  .{{ status }} { background: var(--{{ status }}); }
  {% endfor -%}
  .finding { border-left: .3rem solid var(--failed); padding: .1rem .9rem; margin: .8rem 0; overflow-wrap: anywhere; }
  .finding.warning { border-color: var(--warned); background: none; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .3rem 0; }
  dt { opacity: .7; } dd { margin: 0; }
  .broken { color: var(--failed); font-weight: bold; }
  pre { margin: 0; white-space: pre-wrap; font-size: .92em; }
  code { font-size: .92em; } .quiet { opacity: .75; }
</style>
<h1>Smoke report</h1>
<p class="quiet">{{ not_for_training }}</p>
{% for report in reports %}
<section>
  <h2>{{ report.target }}</h2>
  <p>
    {% set count = counts[loop.index0] %}
    {% for status in ("failed", "warned", "passed", "vacuous") if count[status] %}
    <span class="mark {{ status }}">{{ count[status] }} {{ status }}</span>
    {% endfor %}
  </p>
  {% if report.facts.broke_off %}<p class="broken">{{ report.facts.broke_off }}</p>{% endif %}
  <dl>
    {% for name, value in report.facts.items() if value is not mapping and name != "broke_off" %}
    <dt>{{ name.replace("_", " ") }}</dt><dd>{{ value }}</dd>
    {% endfor %}
    {% for plan, run in report.facts.get("runs", {}).items() %}
    <dt>run {{ plan }}</dt><dd>{{ run.seconds }} s, {{ run.how.replace("_", " ") }}</dd>
    {% endfor %}
    {% for package, version in report.facts.get("versions", {}).items() %}
    <dt>{{ package }}</dt><dd>{{ version }}</dd>
    {% endfor %}
  </dl>
  {% for finding in report.findings %}
  <div class="finding {{ finding.severity }}">
    <p><strong>{{ finding.check }}</strong> at <code>{{ finding.where }}</code>: {{ finding.message }}</p>
    <dl>
      {% if finding.cause %}<dt>likeliest cause</dt><dd>{{ finding.cause }}</dd>{% endif %}
      {% if finding.hint %}<dt>to mend</dt><dd>{{ finding.hint }}</dd>{% endif %}
      {% for name, value in finding.evidence.items() if name != "last_lines" %}
      <dt>{{ name }}</dt><dd><code>{{ value }}</code></dd>
      {% endfor %}
      {% if finding.evidence.last_lines %}
      <dt>last lines</dt><dd><pre>{{ finding.evidence.last_lines | join("\n") }}</pre></dd>
      {% endif %}
      <dt>explained in</dt><dd>{{ finding.docs }}</dd>
    </dl>
  </div>
  {% endfor %}
  <table>
    <tr><th>Outcome</th><th>Check</th><th>Remark</th></tr>
    {% for outcome in report.outcomes if outcome.status != "vacuous" or outcome.reason != report.facts.broke_off %}
    <tr>
      <td><span class="mark {{ outcome.status }}">{{ outcome.status }}</span></td>
      <td><code>{{ outcome.check }}</code></td>
      <td>
        {{ outcome.reason or outcome.findings | map(attribute="message") | join("; ") }}
        {% if outcome.expected_failure %}expected: {{ outcome.expected_failure }}{% endif %}
      </td>
    </tr>
    {% endfor %}
    {% if report.facts.broke_off %}
    <tr>
      <td><span class="mark vacuous">vacuous</span></td>
      <td>every other check</td>
      <td>{{ report.facts.broke_off }}</td>
    </tr>
    {% endif %}
  </table>
</section>
{% endfor %}
</html>
"""


def html_page(reports: Sequence[Report]) -> str:
    """Return the page of all targets."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    counts = [Counter(outcome.status for outcome in report.outcomes) for report in reports]
    return environment.from_string(PAGE).render(reports=reports, counts=counts, not_for_training=NOT_FOR_TRAINING)
