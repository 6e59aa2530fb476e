"""The live page in the browser: what a robot and its planner do, and what people make them do."""
