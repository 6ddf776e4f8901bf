"""The one sentence that says what was screened, and what was not; that no rule fired is all it says of a drug."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serving.screening.findings import TIERS, Alert, NotEvaluated, Text

CHECKS: Mapping[str, Text] = {
    "allergy": Text(en="allergies", ko="알레르기"),
    "onc-high": Text(en="high-priority interactions", ko="고위험 상호작용"),
    "qt": Text(en="QT prolongation", ko="QT 연장"),
    "interaction": Text(en="other interactions", ko="기타 상호작용"),
    "duplicate": Text(en="duplicates", ko="중복 처방"),
    "renal": Text(en="kidney function", ko="신기능"),
    "potassium": Text(en="potassium", ko="칼륨"),
    "pregnancy": Text(en="pregnancy", ko="임신"),
    "lactation": Text(en="lactation", ko="수유"),
    "age": Text(en="age", ko="연령"),
    "current-drugs": Text(en="current orders", ko="현재 처방"),
    "site": Text(en="this site's interactions", ko="기관 상호작용 목록"),
}
"""Every check by its id, in the order in which it is told."""

REASONS: Mapping[str, Text] = {
    "input_missing": Text(en="not given", ko="정보 없음"),
    "stale": Text(en="value too old", ko="오래된 수치"),
    "not_recognised": Text(en="in part: not recognised", ko="일부 인식 불가"),
    "age_or_sex_missing": Text(en="adult age or sex not given", ko="성인 연령·성별 정보 없음"),
}

_TIERS: Mapping[str, Text] = {
    "critical": Text(en="critical", ko="심각"),
    "warning": Text(en="warning", ko="경고"),
    "info": Text(en="note", ko="참고"),
}


def summary(
    screened: int, total: int, evaluated: Iterable[str], missing: Iterable[NotEvaluated], alerts: Iterable[Alert]
) -> Text:
    """Say how many alerts there are, how many drugs were screened, and which checks had what they need."""
    tiers = [alert.tier for alert in alerts]
    counts = {tier: tiers.count(tier) for tier in TIERS if tier in tiers}
    done, left = list(evaluated), list(missing)
    fired_en = "Alerts: " + ", ".join(_counted(counts[tier], tier) for tier in counts)
    fired_ko = "알림: " + ", ".join(f"{_TIERS[tier].ko} {counts[tier]}건" for tier in counts)
    en = f"{fired_en if counts else 'No rule fired'}. {screened} of {total} drugs screened"
    ko = f"{fired_ko if counts else '해당 규칙 없음'}. 약물 {total}개 중 {screened}개 점검"
    if done:
        en += f"; evaluated: {', '.join(CHECKS[check].en for check in done)}"
        ko += f"; 평가: {', '.join(CHECKS[check].ko for check in done)}"
    if left:
        en += f"; not evaluated: {', '.join(f'{CHECKS[n.check].en} ({REASONS[n.reason].en})' for n in left)}"
        ko += f"; 미평가: {', '.join(f'{CHECKS[n.check].ko}({REASONS[n.reason].ko})' for n in left)}"
    return Text(en=f"{en}.", ko=f"{ko}.")


def _counted(n: int, tier: str) -> str:
    name = _TIERS[tier].en
    return f"{n} {name}" if n == 1 or tier == "critical" else f"{n} {name}s"
