"""What a study is (the science) and where it runs (the site): typed, strict, from YAML."""
