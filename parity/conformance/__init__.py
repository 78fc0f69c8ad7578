"""The judge as a test suite, for anybody's backend and device: `pytest --pyargs parity --backend NAME`."""
