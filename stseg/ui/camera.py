"""Recording with the visitor's camera: what is recorded goes through the door of the uploads."""

from __future__ import annotations

import gradio as gr

LONGEST = 20
"""Seconds after which a recording ends by itself."""

PAGE = """
<div class="camera">
  <button type="button" class="record" title="Record a short clip, without sound; it is checked and
kept like an upload.">Record with the camera</button>
  <video muted playsinline hidden aria-label="What the camera sees"></video>
  <p class="note" role="status" hidden></p>
</div>
"""

# Gradio's own recorder asks for the microphone, or else converts with an ffmpeg program that need
# not be there. This one only makes a file and hands it to the upload button.
SCRIPT = """
const button = element.querySelector('.record');
const view = element.querySelector('video');
const told = element.querySelector('.note');
const REST = button.textContent;
let recorder = null, starting = false;

function tell(text) { told.textContent = text; told.hidden = !text; }

function rest(stream) {
  for (const track of stream ? stream.getTracks() : []) track.stop();
  recorder = null;
  view.hidden = true;
  view.srcObject = null;
  button.textContent = REST;
}

function hand(parts, type) {
  const name = type.includes('mp4') ? 'camera.mp4' : 'camera.webm';
  const input = document.querySelector('#left input[type=file]');
  const carrier = new DataTransfer();
  carrier.items.add(new File(parts, name, {type: type.split(';')[0]}));
  input.files = carrier.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
}

async function start() {
  let stream = null, own = null;
  // A second click while leave is asked would open a second camera, which nobody ends.
  starting = true;
  try {
    const wanted = {video: {width: {ideal: 854}}, audio: false};
    stream = await navigator.mediaDevices.getUserMedia(wanted);
    own = new MediaRecorder(stream);
  } catch (error) {
    rest(stream);
    tell('No camera can be used here. Allow it in the browser, or upload a file.');
    return;
  } finally {
    starting = false;
  }
  recorder = own;
  tell('');
  const parts = [];
  own.ondataavailable = (event) => { if (event.data.size) parts.push(event.data); };
  own.onstop = () => {
    const type = own.mimeType || 'video/webm';
    rest(stream);
    hand(parts, type);
  };
  view.srcObject = stream;
  view.hidden = false;
  view.play();
  own.start();
  button.textContent = 'End the recording';
  setTimeout(() => { if (own.state === 'recording') own.stop(); }, LONGEST_MS);
}

button.addEventListener('click', () => {
  if (recorder && recorder.state === 'recording') recorder.stop();
  else if (!recorder && !starting) start();
});
"""


def build_camera() -> gr.HTML:
    """Lay out the button and the picture of the camera."""
    script = SCRIPT.replace("LONGEST_MS", str(1000 * LONGEST))
    return gr.HTML(PAGE, js_on_load=script, elem_id="camera", padding=False)
