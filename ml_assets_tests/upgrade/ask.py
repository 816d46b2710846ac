"""Run a program, whose text is the argument, and print its `answer` as JSON."""

import json
import sys
import textwrap

scope: dict[str, object] = {}
exec(textwrap.dedent(sys.argv[1]), scope)
print(json.dumps(scope["answer"]))
