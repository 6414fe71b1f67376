"""Scoring images in bulk: a job from files or tar shards to Parquet or JSON lines.

    python -m service.bulk --repository DIR --model NAME --input SOURCE --out DIR

- The input is listed once, cut into **parts**, and the list kept beside the output.
- A part becomes one output file, whose bytes depend on the part, the model and the batch size only:
  not on what ran before, on which machine, or how often it was interrupted.
- The file appears by a rename when it is complete. What is there is done; the same command goes on
  with what is not. So every image is scored exactly once, as far as anybody can see.
- An image that cannot be scored has its error in the output in place of answers.
"""
