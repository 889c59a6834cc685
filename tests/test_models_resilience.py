"Retries, pace, quotas, budgets and the cache, against simulated providers in virtual time"

import asyncio
import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_virtual

from vote_experiments.models import resilience
from vote_experiments.models.attempts import Attempt, Call, RetryPolicy
from vote_experiments.models.budget import Budget, BudgetExceeded
from vote_experiments.models.pace import MinuteQuota, RateLimiter
from vote_experiments.models.resilience import (
    call_context,
    calling,
    close_loop_resources,
    limiter_for,
    loop_resource,
    remember,
    remembered,
    request_key,
    robust_call,
    run_sync,
)
from vote_experiments.records import Usage

OK = Attempt("answer", usage=Usage(1000, 100), cost_usd=0.01)


@pytest.fixture(autouse=True)
def same_waits():
    "Pauses are drawn: in virtual time the same draws make the same run, and no rare one fails a test"
    random.seed(1)


def now() -> float:
    return asyncio.get_running_loop().time()


class Provider:
    "Accepts `limit(t)` calls a second with a burst, in virtual time; refuses the rest"

    def __init__(
        self,
        limit: Callable[[float], float],
        burst: float = 5,
        latency: float = 0.5,
        told_s: float | None = None,
        accepted: Attempt = OK,
    ):
        self.limit, self.burst, self.latency, self.told_s, self.answer = limit, burst, latency, told_s, accepted
        self.tokens, self.filled = burst, 0.0
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.in_flight = self.most_in_flight = 0

    async def __call__(self) -> Attempt:
        t = now()
        self.tokens, self.filled = min(self.burst, self.tokens + (t - self.filled) * self.limit(t)), t
        if self.tokens < 1:
            self.refused.append(t)
            await asyncio.sleep(min(0.05, self.latency))
            return Attempt(problem="http 429", retry=True, refused=True, told_s=self.told_s)
        self.tokens -= 1
        self.accepted.append(t)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.latency)
        self.in_flight -= 1
        return Attempt(**{f: getattr(self.answer, f) for f in ("value", "usage", "cost_usd")})

    def seen(self, start: float, end: float) -> tuple[float, float]:
        "Accepted per second, and the share of calls refused, in a stretch of time"
        ok, no = (sum(start <= t < end for t in times) for times in (self.accepted, self.refused))
        return ok / (end - start), no / max(1, ok + no)


def limiter(**options) -> RateLimiter:
    return RateLimiter(clock=now, **options)


async def busy(
    provider: Provider,
    jobs: int,
    seconds: float,
    line: RateLimiter | None = None,
    policy: RetryPolicy = RetryPolicy(attempts=12),
) -> list[Call]:
    "`jobs` workers that always have another call to make"
    line, calls = line or limiter(), []

    async def worker() -> None:
        while now() < seconds:
            calls.append(await robust_call(provider, line, policy))

    await asyncio.wait([asyncio.create_task(worker()) for _ in range(jobs)], timeout=seconds)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    return calls


# ------------------------------------------------------------------------------------------------- pace
def test_a_provider_of_20_a_second_is_used_to_90_percent_with_few_refusals():
    provider = Provider(lambda t: 20)
    run_virtual(busy(provider, jobs=50, seconds=120))
    rate, refused = provider.seen(30, 120)
    assert rate >= 0.9 * 20 and refused < 0.05, (rate, refused)


def test_a_limit_that_halves_is_followed_within_20_seconds():
    provider = Provider(lambda t: 20 if t < 60 else 10)
    run_virtual(busy(provider, jobs=50, seconds=150))
    rate, refused = provider.seen(80, 150)
    assert rate >= 0.9 * 10 and refused < 0.05, (rate, refused)


def test_a_limit_that_rises_is_found():
    provider = Provider(lambda t: 10 if t < 30 else 40)
    run_virtual(busy(provider, jobs=100, seconds=200))
    assert provider.seen(170, 200)[0] >= 0.8 * 40


@settings(deadline=None, max_examples=6, derandomize=True)
@given(st.floats(1, 30), st.integers(3, 20), st.floats(0.02, 5))
def test_any_limit_is_found(limit, burst, latency):
    _limit_is_found(limit, burst, latency)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.floats(1, 100), st.integers(3, 20), st.floats(0.02, 5))
def test_any_limit_is_found_in_full(limit, burst, latency):
    _limit_is_found(limit, burst, latency)


def _limit_is_found(limit, burst, latency):
    provider = Provider(lambda t: limit, burst, latency)
    run_virtual(busy(provider, jobs=int(2 * limit * latency) + 10, seconds=180))
    rate, refused = provider.seen(90, 180)
    assert rate >= 0.8 * limit and refused < 0.1, (rate, refused)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_refusals_at_random_do_not_bring_a_run_to_a_halt(share, seed):
    draw = random.Random(seed)

    async def provider() -> Attempt:
        await asyncio.sleep(0.2)
        return OK if draw.random() > share else Attempt(problem="http 429", retry=True, refused=True)

    async def run() -> float:
        line, policy = limiter(), RetryPolicy(attempts=12)
        await asyncio.gather(*(robust_call(provider, line, policy, draw=draw.random) for _ in range(400)))
        return now()

    assert run_virtual(run()) < 160  # the calls take 40 s at the pace a run starts with


def test_a_minute_quota_that_is_exhausted_is_waited_for():
    "When the server says to come back in 40 s, nothing is sent in between once it is clear that everything is refused"
    provider = Provider(lambda t: 1e9 if t >= 40 else 0, burst=5, told_s=40.0)
    calls = run_virtual(busy(provider, jobs=10, seconds=45))
    assert len(provider.refused) < 20 and len(provider.accepted) > 5
    assert all(c.last.value == "answer" for c in calls)


def test_faults_pause_growth_only():
    async def run() -> tuple[float, float]:
        line = limiter()
        before = line.rate

        async def broken() -> Attempt:
            return Attempt(problem="http 503", retry=True, faltered=True)

        await asyncio.gather(*(robust_call(broken, line, RetryPolicy(attempts=1)) for _ in range(100)))
        return before, line.rate

    before, after = run_virtual(run())
    assert before <= after <= 2 * before


def test_one_model_refused_does_not_slow_another():
    async def run() -> tuple[float, float]:
        slow, fast = Provider(lambda t: 1), Provider(lambda t: 50)
        await asyncio.gather(
            *(
                asyncio.create_task(_work(p, limiter_for("test", name), 60))
                for p, name in ((slow, "slow"), (fast, "fast"))
                for _ in range(60)
            )
        )
        return slow.seen(30, 60)[0], fast.seen(30, 60)[0]

    async def _work(provider, line, seconds):
        line.clock = now
        while now() < seconds:
            await robust_call(provider, line)

    slow, fast = run_virtual(run())
    assert slow < 2 and fast > 40


# ----------------------------------------------------------------------------------------------- quotas
@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.integers(1, 300), st.integers(1, 40))
def test_rpm_holds_in_every_minute(rpm, jobs):
    provider = Provider(lambda t: 1e9, burst=1e9, latency=0.3)
    run_virtual(busy(provider, jobs, 200, limiter(rpm=rpm)))
    sent = provider.accepted
    assert all(sum(t <= s < t + 60 - 1e-6 for s in sent) <= rpm for t in sent[:: max(1, len(sent) // 50)])
    assert len(sent) >= min(rpm * 3, jobs * 200 / 0.31) * 0.8


def test_tpm_holds_once_the_size_of_a_call_is_known():
    provider = Provider(lambda t: 1e9, burst=1e9, latency=0.3)  # 1,100 tokens a call
    run_virtual(busy(provider, 3, 240, limiter(tpm=22_000)))
    per_minute = [sum(m <= t < m + 60 for t in provider.accepted) for m in (60, 120, 180)]
    assert all(17 <= n <= 20 for n in per_minute), per_minute


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0.1, 50)), max_size=30), st.floats(1, 100))
def test_minute_quota_waits_exactly_until_it_fits(spends, limit):
    quota, log = MinuteQuota(limit), []
    for at, amount in sorted(spends):
        quota.wait(at, 0)  # time passes
        quota.spend(at, amount)
        log.append((at, amount))
    t, want = 200.0, limit / 2

    def used(when: float) -> float:
        return sum(a for at, a in log if at > when - 60)

    wait = quota.wait(t, want)
    assert 0 <= wait <= 60
    assert used(t + wait + 1e-6) + want <= limit + 1e-6
    assert wait == 0 or used(t + wait - 1e-6) + want > limit - 1e-6


# ---------------------------------------------------------------------------------------------- retries
@given(
    st.integers(1, 60),
    st.one_of(st.none(), st.floats(0, 1e5)),
    st.floats(0, 0.999),
    st.floats(0.001, 10),
    st.floats(0.01, 100),
)
def test_delay_is_bounded_and_never_earlier_than_told(attempt, told, drawn, base, cap):
    delay = RetryPolicy(base_s=base, cap_s=cap).delay(attempt, told, lambda: drawn)
    assert (told <= delay <= told + base) if told is not None else 0 <= delay <= min(cap, base * 2 ** (attempt - 1))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=4))
def test_retry_info_is_obeyed(told):
    async def run() -> list[float]:
        times, answers = [], iter([*told, None])

        async def provider() -> Attempt:
            times.append(now())
            wait = next(answers)
            return OK if wait is None else Attempt(problem="http 429", retry=True, refused=True, told_s=wait)

        call = await robust_call(provider, limiter())
        assert call.last.value == "answer"
        assert call.waited_s == pytest.approx(times[-1] - times[0], abs=0.01)
        return times

    times = run_virtual(run())
    assert all(b - a >= t - 1e-9 for a, b, t in zip(times, times[1:], told))  # sums of floats


@pytest.mark.parametrize("policy, tries", [(RetryPolicy(), 3), (RetryPolicy(unusable=5), 5)])
def test_unusable_answers_are_three_by_default_and_all_of_them_are_billed(policy, tries):
    billed, heard = Attempt(problem="not JSON", retry=True, usage=Usage(1000, 50), cost_usd=0.002), []

    async def provider() -> Attempt:
        return Attempt(problem=billed.problem, retry=True, usage=billed.usage, cost_usd=billed.cost_usd)

    with calling(budget=Budget(1.0)):
        call = run_virtual(_one(provider, policy=policy, on_attempt=heard.append))
        assert call_context().budget.spent_usd == pytest.approx(0.002 * tries)
    assert len(call.attempts) == len(heard) == tries
    assert call.usage == Usage(1000 * tries, 50 * tries) and call.cost_usd == pytest.approx(0.002 * tries)


async def _one(provider, **options) -> Call:
    return await robust_call(provider, limiter(), **options)


def test_a_price_that_is_unknown_makes_the_cost_unknown_and_no_answer_costs_nothing():
    known, unknown = Attempt(usage=Usage(1, 1), cost_usd=0.5), Attempt(usage=Usage(1, 1))
    assert Call([known, unknown]).cost_usd is None
    assert Call([Attempt(problem="reset"), known]).cost_usd == 0.5
    assert Call([Attempt(problem="reset")]).cost_usd == 0 and Call([Attempt()]).usage is None


def test_waiting_is_not_latency():
    async def run() -> Call:
        provider, line = Provider(lambda t: 1e9, burst=1e9, latency=2.0), limiter(rpm=6)
        return (await asyncio.gather(*(robust_call(provider, line) for _ in range(4))))[-1]

    call = run_virtual(run())
    assert call.last.latency_s == pytest.approx(2.0) and call.waited_s >= 9


def test_a_hanging_call_ends_at_its_deadline_and_is_tried_again():
    async def hang() -> Attempt:
        await asyncio.sleep(10_000)
        return OK

    call = run_virtual(_one(hang, deadline_s=30, policy=RetryPolicy(attempts=3)))
    assert [a.latency_s for a in call.attempts] == pytest.approx([30, 30, 30]) and "30 s" in call.last.problem


def test_a_storm_is_survived_within_1_6_calls_an_item():
    draw, concurrency = random.Random(3), 40

    async def run() -> tuple[list[Call], int]:
        line, gate, in_flight = limiter(), asyncio.Semaphore(concurrency), [0, 0]

        async def provider() -> Attempt:
            in_flight[0] += 1
            in_flight[1] = max(in_flight)
            await asyncio.sleep(draw.uniform(0.1, 1))
            in_flight[0] -= 1
            fault = draw.random()
            if fault < 0.075:
                return Attempt(problem="http 429", retry=True, refused=True, told_s=1.0)
            if fault < 0.15:
                return Attempt(problem="http 503", retry=True, faltered=True)
            if fault < 0.225:
                return Attempt(problem="reset", retry=True, faltered=True)
            return Attempt(problem="not JSON", retry=True) if fault < 0.3 else OK

        async def item() -> Call:
            async with gate:
                return await robust_call(provider, line, RetryPolicy(attempts=12))

        return await asyncio.gather(*(item() for _ in range(1000))), in_flight[1]

    calls, most = run_virtual(run())
    assert all(c.last.value == "answer" for c in calls) and most <= concurrency
    assert sum(len(c.attempts) for c in calls) <= 1.6 * len(calls)


def test_a_cancelled_call_leaves_the_line_open():
    async def run() -> float:
        provider, line = Provider(lambda t: 1e9, burst=1e9, latency=0.1), limiter(rpm=60)
        tasks = [asyncio.create_task(robust_call(provider, line)) for _ in range(10)]
        await asyncio.sleep(1.5)
        for task in tasks[3:8]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(d, asyncio.CancelledError) for d in done) >= 4
        return now()

    assert run_virtual(run()) < 6


def test_an_unexpected_error_is_not_hidden():
    async def broken() -> Attempt:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        run_virtual(_one(broken))


# ---------------------------------------------------------------------------------------------- budget
def test_the_cap_is_passed_by_no_more_than_what_is_in_flight():
    jobs, budget = 8, Budget(0.5)

    async def run() -> list[BaseException]:
        provider, line = Provider(lambda t: 1e9, burst=1e9), limiter()
        return [
            e
            for e in await asyncio.gather(
                *(_until_stopped(provider, line) for _ in range(jobs)), return_exceptions=True
            )
            if e
        ]

    async def _until_stopped(provider, line) -> None:
        while True:
            await robust_call(provider, line)

    with calling(budget=budget):
        stopped = run_virtual(run())
    assert all(isinstance(e, BudgetExceeded) for e in stopped) and len(stopped) == jobs
    assert "max_cost_usd=0.5" in str(stopped[0]) and "resume" in str(stopped[0])
    assert 0.5 <= budget.spent_usd <= 0.5 + jobs * 0.01 + 1e-9


@pytest.mark.parametrize("cap", [0, -1, float("nan"), None, True, "1"])
def test_a_cap_must_be_a_positive_number(cap):
    with pytest.raises(ValueError, match="max_cost_usd"):
        Budget(cap)


# ----------------------------------------------------------------------------------------------- cache
class Kept(dict):
    def put(self, key, value):
        self[key] = value


class LateKept(Kept):
    async def get(self, key):
        return dict.get(self, key)

    async def put(self, key, value):
        self[key] = value


@pytest.mark.parametrize("kind", [Kept, LateKept])
def test_cache_modes(kind):
    async def exchange(mode):
        with calling(cache_mode=mode):
            found = await remembered("k")
            await remember("k", {"mode": mode})
            return found

    async def run():
        return [await exchange(mode) for mode in ("use", "use", "refresh", "use", False, "use")]

    with calling(cache=kind()):
        found = asyncio.run(run())
    assert found == [None, {"mode": "use"}, None, {"mode": "refresh"}, None, {"mode": "use"}]


@given(
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=9), st.integers(), st.none()), max_size=4),
    st.integers(0, 3),
)
def test_keys_differ_with_anything_in_the_request(config, repeat):
    key = request_key(config=config, repeat=repeat)
    assert len(key) == 64 and key == request_key(repeat=repeat, config=dict(reversed(config.items())))
    assert key != request_key(config=config, repeat=repeat + 1)
    assert key != request_key(config={**config, "more": 1}, repeat=repeat)


def test_wrong_cache_mode_and_unknown_field():
    with pytest.raises(ValueError, match="'use', 'refresh' or False"):
        calling(cache_mode="yes")
    with pytest.raises(TypeError, match="cahce"), calling(cahce=None):
        pass


# ----------------------------------------------------------------------------------------------- loops
def test_resources_close_with_their_loop():
    closed = []

    async def close(thing):
        closed.append(thing)

    async def use():
        first = await loop_resource("client", object, close)
        assert await loop_resource("client", object, close) is first
        return first

    first, second = asyncio.run(use()), asyncio.run(use())
    assert closed == [first, second] and first is not second


def test_resources_can_be_closed_early_and_are_made_again():
    closed = []

    async def close(thing):
        closed.append(thing)

    async def use():
        first = await loop_resource("client", object, close)
        await close_loop_resources()
        second = await loop_resource("client", object, close)
        assert closed == [first] and second is not first

    asyncio.run(use())
    assert len(closed) == 2


def test_ended_loops_are_forgotten():
    async def use():
        limiter_for("p", "m")

    for _ in range(5):
        asyncio.run(use())
    asyncio.run(use())
    assert sum(loop.is_closed() for loop in resilience._of_loops) <= 1


def test_sync_calls_share_one_loop_and_inherit_the_context():
    async def where():
        return id(limiter_for("p", "m")), call_context().repeat, threading.current_thread().name

    seen = []

    def work(k):
        with calling(repeat=k):
            seen.append(run_sync(where()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({s[0] for s in seen}) == 1 and {s[1] for s in seen} == {0, 1, 2, 3}
    assert {s[2] for s in seen} == {"model-calls"}


def test_sync_errors_come_through():
    async def broken():
        raise BudgetExceeded("stopped")

    with pytest.raises(BudgetExceeded):
        run_sync(broken())
