"""Find the commit that introduced a failure, although tests are flaky and some commits do not
build."""
