import numpy as np
import pytest

from ml_assets.promotion import Decision, TrialDecision, decide, held_back, judge, keep_later

ROWS = 1_000


def losses(errors: int) -> np.ndarray:
    """0/1 losses of a model that misses the first `errors` rows."""
    return (np.arange(ROWS) < errors).astype(float)


def test_the_first_model_becomes_champion() -> None:
    decision = decide(losses(10), None)
    assert decision.promote
    assert not decision.regressed


def test_a_better_model_becomes_champion() -> None:
    decision = decide(losses(10), losses(60))
    assert decision.promote
    assert decision.gain == pytest.approx(0.05)
    assert 0 < decision.gain_low < decision.gain < decision.gain_high


def test_a_gain_within_the_noise_is_not_enough() -> None:
    decision = decide(losses(10), losses(11))
    assert not decision.promote
    assert not decision.regressed


def test_a_tie_leaves_the_champion() -> None:
    decision = decide(losses(10), losses(10))
    assert not decision.promote
    assert not decision.regressed
    assert decision.gain == 0


def test_a_worse_model_is_a_regression() -> None:
    decision = decide(losses(60), losses(10))
    assert not decision.promote
    assert decision.regressed


def differing(wins: int, losses: int) -> Decision:
    """The decision about a challenger that differs from the champion on few rows."""
    champion, challenger = np.zeros(ROWS), np.zeros(ROWS)
    champion[:wins] = 1
    challenger[wins : wins + losses] = 1
    return decide(challenger, champion)


@pytest.mark.parametrize(
    ("wins", "losses", "promoted"),
    [(4, 0, False), (5, 0, False), (6, 0, True), (8, 2, False), (15, 3, True), (12, 5, False)],
)
def test_few_differing_rows_must_agree(wins: int, losses: int, promoted: bool) -> None:
    assert differing(wins, losses).promote == promoted
    assert differing(losses, wins).regressed == promoted


def test_equal_models_are_rarely_promoted() -> None:
    random = np.random.default_rng(0)
    promoted = sum(differing(wins, 8 - wins).promote for wins in random.binomial(8, 0.5, size=300))
    assert promoted / 300 <= 0.025


def test_a_constant_gain_needs_no_noise() -> None:
    assert decide(np.zeros(ROWS), np.ones(ROWS)).promote


def test_a_challenger_that_predicts_nan_is_refused() -> None:
    challenger = losses(0)
    challenger[3] = np.nan
    decision = decide(challenger, None)
    assert not decision.promote
    assert decision.regressed


def test_a_champion_that_predicts_nan_is_replaced() -> None:
    champion = losses(0)
    champion[3] = np.nan
    assert decide(losses(10), champion).promote


def test_the_decision_is_the_same_each_time() -> None:
    assert decide(losses(10), losses(20)) == decide(losses(10), losses(20))


def test_models_scored_on_different_rows_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        decide(losses(1), losses(1)[:10])


def test_no_rows_are_no_evidence() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        decide(np.array([]), None)


def test_of_two_models_that_cannot_be_compared_the_later_one_is_kept() -> None:
    earlier, later = {"trained_until": "2026-01-30"}, {"trained_until": "2026-01-31"}
    found = keep_later(earlier, later)
    assert found.promote
    assert not found.regressed
    assert found.gain is None
    assert "trained until 2026-01-30" in found.reason
    assert not keep_later(later, earlier).promote
    assert not keep_later(later, later).promote


def test_what_is_held_back_keeps_what_was_measured() -> None:
    decision = decide(losses(10), losses(60))
    held = held_back(decision, "promotion is manual")
    assert not held.promote
    assert (held.gain, held.gain_low) == (decision.gain, decision.gain_low)
    assert held.reason == f"promotion is manual; on the test rows: {decision.reason}"
    assert held_back(decide(losses(60), losses(10)), "promotion is manual").regressed


# Trials.

CHAMPION = 1 + 0.1 * np.random.default_rng(0).standard_normal(14)
NOISE = 0.05 * np.random.default_rng(1).standard_normal(14)


def judged(challenger: np.ndarray, days_left: int = 3) -> TrialDecision:
    return judge(challenger, CHAMPION[: len(challenger)], days_left=days_left, tuned_for=14)


def test_a_trial_ends_with_promotion_as_soon_as_the_evidence_is_enough() -> None:
    found = judged(CHAMPION - 0.2 + NOISE)
    assert found.promote
    assert found.over
    assert 0 < found.gain_low < found.gain < found.gain_high
    assert "the challenger is better; gain +0." in found.reason


def test_a_trial_ends_when_the_challenger_is_worse() -> None:
    found = judged(CHAMPION + 0.2 + NOISE)
    assert found.over
    assert found.regressed
    assert not found.promote
    assert "the challenger is worse" in found.reason


def test_a_trial_goes_on_while_the_evidence_is_not_enough() -> None:
    for days in (0, 1, 5, 14):
        found = judged((CHAMPION + NOISE)[:days])
        assert (found.over, found.promote, found.regressed) == (False, False, False)
        assert "not enough yet, 3 days are left" in found.reason


def test_a_trial_ends_when_its_days_are_over_and_the_champion_stays() -> None:
    for days in (0, 14):
        for left in (0, -1):
            found = judged((CHAMPION + NOISE)[:days], left)
            assert (found.over, found.promote, found.regressed) == (True, False, False)
            assert "the days are over without enough evidence" in found.reason


def test_two_models_that_are_the_same_are_never_told_apart() -> None:
    assert not judged(CHAMPION).over
    assert judged(CHAMPION).gain == 0


def test_a_model_on_trial_without_finite_losses_loses() -> None:
    broken = np.where(np.arange(14) == 7, np.nan, CHAMPION)
    assert judged(broken).over
    assert not judged(broken).promote
    found = judge(CHAMPION, broken, days_left=3, tuned_for=14)
    assert found.over
    assert found.promote
