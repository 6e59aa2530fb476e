"""From messages to the state that a plan starts from."""
