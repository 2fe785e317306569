//! Comparisons of jittered instants.
//!
//! Where the bounds of a jittered instant leave a comparison open, the model tries both answers: the
//! first run answers every open question with no, and [`Guesses::next`] counts up through the other
//! answers until one run agrees with the observed line.

/// The answers given in one run, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Guesses {
    answers: Vec<bool>,
    asked: usize,
}

impl Guesses {
    /// Answers a comparison. Guesses only if both answers are possible.
    pub fn ask(&mut self, can_be: bool, can_fail_to_be: bool) -> bool {
        if !(can_be && can_fail_to_be) {
            return can_be;
        }
        if self.asked == self.answers.len() {
            self.answers.push(false);
        }
        self.asked += 1;
        self.answers[self.asked - 1]
    }

    /// Returns the answers to try next, or `None` after the last.
    pub fn next(mut self) -> Option<Guesses> {
        self.answers.truncate(self.asked);
        self.asked = 0;
        while self.answers.last() == Some(&true) {
            self.answers.pop();
        }
        *self.answers.last_mut()? = true;
        Some(self)
    }
}
