from emulator.folder import environment


def test_what_last_digits_depend_on_is_told(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("EDITOR", "ed")
    told = environment("one_process", "cpu")
    assert told["variables"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert "EDITOR" not in told["variables"]
    assert told["instructions"]
