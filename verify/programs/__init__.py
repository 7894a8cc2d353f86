"""Mixed-integer and linear programs, solved by HiGHS."""
