() => {
  // The slider is the one place that knows the frame: buttons, keys, the timeline and Play move it
  // as a hand would, and the server hears of nothing else.
  const PERIOD = 140;
  let timer = null;

  const range = () => document.querySelector('#frame input[type=range]');
  const playButton = () => document.querySelector('#play');

  function go(frame) {
    const slider = range();
    if (!slider || slider.disabled) return false;
    const value = Math.min(Math.max(frame, Number(slider.min)), Number(slider.max));
    if (value === Number(slider.value)) return false;
    slider.value = value;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    return true;
  }

  function step(by) {
    const slider = range();
    if (slider) go(Number(slider.value) + by);
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    if (playButton()) playButton().textContent = 'Play';
  }

  function toggle() {
    if (timer !== null) { pause(); return; }
    playButton().textContent = 'Pause';
    timer = setInterval(() => {
      const slider = range();
      if (!slider || slider.disabled) { pause(); return; }
      const last = Number(slider.value) >= Number(slider.max);
      go(last ? Number(slider.min) : Number(slider.value) + 1);
    }, PERIOD);
  }

  // Without frames there is nothing to step or to run through.
  function offer() {
    const none = !range() || range().disabled;
    document.querySelectorAll('#previous, #play, #next').forEach((button) => {
      if (button.disabled !== none) button.disabled = none;  // this is observed, too
    });
  }
  // While nothing goes on there is nothing to stop: the bar of the status tells.
  function offerStop() {
    const idle = !document.querySelector('#status .busy');
    document.querySelectorAll('#stop, #fit-stop, #benchmark-stop').forEach((button) => {
      if (button.disabled !== idle) button.disabled = idle;
    });
  }
  new MutationObserver(() => { offer(); offerStop(); }).observe(
    document.body,
    {subtree: true, childList: true, attributes: true, attributeFilter: ['disabled']});
  offer();
  offerStop();

  document.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Where arrows have a meaning of their own they keep it.
    // Of Gradio's radios none has: each has a name of its own; nor has a tab.
    const own = 'input:not([type=radio], [type=checkbox], [type=file]), textarea, select, video,'
      + ' [role=listbox], [contenteditable=true]';
    if (event.target.closest && event.target.closest(own)) return;
    event.preventDefault();
    step(event.key === 'ArrowRight' ? 1 : -1);
  });

  // Gradio's sliders tell the server of numbers beyond their ends, which it refuses, while they are
  // being typed; and that they were let go, of the mouse alone.
  const sliderOf = (field) => {
    const block = field.closest && field.closest('input') && field.closest('.block');
    return block && block.querySelector('input[type=range]');
  };
  window.addEventListener('input', (event) => {
    const field = event.target, slider = field.type === 'number' && sliderOf(field);
    if (!slider) return;
    const number = field.value === '' ? NaN : Number(field.value);
    if (!(number >= Number(slider.min) && number <= Number(slider.max))) {
      event.stopImmediatePropagation();
    }
  }, true);
  window.addEventListener('change', (event) => {
    const field = event.target, slider = sliderOf(field);
    if (!slider) return;
    const [least, most, step] = [slider.min, slider.max, slider.step].map(Number);
    // Gradio's field keeps what lies between two steps, its slider does not.
    const whole = step ? least + step * Math.round((Number(field.value) - least) / step)
      : Number(field.value);
    const inside = Math.min(Math.max(Number(whole.toFixed(9)), least), most);
    if (field.value === '') {
      field.value = slider.value;
    } else if (Number(field.value) !== inside) {
      field.value = inside;
      field.dispatchEvent(new Event('input', {bubbles: true}));
    }
    slider.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}));
  }, true);

  // Gradio gives a button no place for a hint: it becomes the title when somebody comes near.
  const HINTS = {
    upload: 'MP4, MOV, WebM, AVI, GIF and what else FFmpeg reads; only you see it.',
    segment: 'Estimate the flow and segment the chosen clip with these settings.',
    stop: 'End what runs for you; what is done so far stays.',
    'own-flow': 'Flow of the chosen clip that you computed elsewhere.',
    'own-model': 'A checkpoint of stseg train, stseg fit or the tab Fit; only you see it.',
    previous: 'One frame back (left arrow).',
    play: 'Run through the frames, over and over.',
    next: 'One frame on (right arrow).',
    compare: 'Segment the clip under each variant that is chosen, and measure them.',
    'compare-write': 'Write the variants as one video, and their figures as CSV and JSON.',
    'compare-download': 'Video and figures of the comparison, as a .zip.',
    'keep-merged': 'Put the merged labels beside the others in the tab Compare.',
    'fit-start': 'Go on training on this clip alone.',
    'fit-stop': 'End the fit; what it learnt so far is kept.',
    'fit-join': 'Segment with the fitted model and put the result into Compare.',
    'fit-use': 'Choose the fitted model on the left and segment the chosen clip with it.',
    'fit-download': 'The fitted model, for python -m stseg segment --model.',
    'benchmark-start': 'Segment and score the sequences, one after the other.',
    'benchmark-stop': 'End the scoring; the sequences that are done stay.',
    'benchmark-download': 'All scores of this run as JSON.',
  };
  const hint = (event) => {
    for (let node = event.target; node && node !== document; node = node.parentElement) {
      if (HINTS[node.id] && !node.title) node.title = HINTS[node.id];
    }
  };
  document.addEventListener('pointerover', hint);
  document.addEventListener('focusin', hint);

  // The clock of Gradio's loading screen (6.31) goes on when the screen is gone: sixty times a
  // second, a twentieth of a core, for as long as the page is open. It is what asks for exactly one
  // callback in every frame of a page at rest; numbers of callbacks are given in order.
  const REST = 30;
  function stopClock(before, alone, none, left) {
    const now = requestAnimationFrame(() => {
      const others = now - before - 1;
      alone = others === 1 ? alone + 1 : 0;
      none = others === 0 ? none + 1 : 0;
      if (none === REST) return;  // there is no such clock
      if (alone === REST) cancelAnimationFrame(now + 1);
      else if (left > 0) stopClock(now, alone, none, left - 1);
      else setTimeout(() => stopClock(0, 0, 0, 2 * REST), 3000);  // the page was not at rest
    });
  }
  stopClock(0, 0, 0, 2 * REST);

  window.stseg = {go, step, toggle, pause};
}
