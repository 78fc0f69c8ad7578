"""What every step of the lesson says, English and 简体中文 side by side, in plain HTML: p, code, em, sub, sup."""

from gpt2.lesson.words.forward import FORWARD
from gpt2.lesson.words.training import TRAINING

STEP_WORDS = FORWARD | TRAINING
