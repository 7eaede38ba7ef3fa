"""The small code base that the demo's agents work on: one bug, and a test that finds it."""

FAILING_TEST = "test_ten_percent_off_twenty_euros"
"""Only who reads the test's file, or its output, knows this name."""

PRICING = '''\
"""Prices of the shop, in cents."""


def discounted(price_cents: int, percent: int) -> int:
    """The price after a discount of so many percent."""
    return price_cents - percent


def with_shipping(price_cents: int) -> int:
    """Orders below 50 euros pay 4.90 for shipping."""
    return price_cents if price_cents >= 5000 else price_cents + 490
'''
BUG = "return price_cents - percent"
FIX = "return price_cents * (100 - percent) // 100"

TEST_PRICING = f"""\
import unittest

from pricing import discounted, with_shipping


class PricingTest(unittest.TestCase):
    def {FAILING_TEST}(self) -> None:
        self.assertEqual(discounted(2000, 10), 1800)

    def test_small_orders_pay_shipping(self) -> None:
        self.assertEqual(with_shipping(1000), 1490)
        self.assertEqual(with_shipping(5000), 5000)
"""

FILES = {"pricing.py": PRICING, "test_pricing.py": TEST_PRICING}
