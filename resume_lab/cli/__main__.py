"""`python -m resume_lab.cli` is `resume-lab`."""

from resume_lab.cli import main

main()
