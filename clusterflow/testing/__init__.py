"""Fakes and conformance suites to test the machinery; never a stand-in for a result."""
