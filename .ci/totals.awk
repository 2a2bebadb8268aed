# Sums the counts in one part's output: PASSED FAILED SKIPPED. `status` is its exit status.
#
# Understood: cargo test's `test result:` lines, nextest's Summary, and a closing
# `N passed, N failed[, N skipped]` alone on a line.

# Colours would break the patterns.
{ gsub(/\033\[[0-9;]*m/, "") }

# cargo test announces each test program; one that dies has no result line.
/^ *(Running (unittests |tests\/|benches\/|examples\/|.*\(target\/)|Doc-tests )/ { announced++ }

function number(word,   at) {
    return match($0, "[0-9]+ " word) ? substr($0, RSTART, RLENGTH - length(word) - 1) + 0 : 0
}

/^test result: / {
    reported++; counted = 1
    passed += number("passed"); failed += number("failed"); skipped += number("ignored")
}
/^ *Summary \[/ {
    counted = 1
    passed += number("passed"); failed += number("failed") + number("timed out"); skipped += number("skipped")
}
/^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
    counted = 1
    passed += number("passed"); failed += number("failed"); skipped += number("skipped")
}

END {
    if (announced > reported && reported > 0) failed += announced - reported
    if ((status != 0 && failed == 0) || !counted) failed++
    print passed + 0, failed + 0, skipped + 0
}
