"""Reports: read the files of runs, never their processes. No torch in here."""
